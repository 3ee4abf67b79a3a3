#!/usr/bin/env bash
# Makes what compose.yaml needs and nobody may know: keys, a password, the Kafka cluster's id. Run again it changes nothing.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

# Two key pairs for tokens: the issuer's (your identity provider's public key in earnest), and that of scheduler and dispatcher.
# Containers read single files as a user of their own; the folder keeps everybody else out.
for name in issuer service; do
  [ -e "secrets/$name.pem" ] || openssl genpkey -algorithm ed25519 -out "secrets/$name.pem"
  openssl pkey -in "secrets/$name.pem" -pubout -out "secrets/$name.pub.pem"
  chmod 0644 "secrets/$name.pub.pem"
done
chmod 0644 secrets/service.pem

if [ ! -e .env ]; then
  {
    echo "POSTGRES_PASSWORD=$(openssl rand -hex 24)"
    echo "KAFKA_CLUSTER_ID=$(openssl rand 16 | base64 | tr '+/' '-_' | tr -d '=')"
    echo "# The mail server; without it mails go to the one on http://127.0.0.1:8025"
    echo "# SALDO_SMTP=smtps://user:password@mail.example.com"
  } >.env
fi
echo "ready: secrets/ and .env"
