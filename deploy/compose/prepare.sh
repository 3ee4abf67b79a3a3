#!/usr/bin/env bash
# Makes what compose.yaml needs and nobody may know: keys, a password, the Kafka cluster's id. Run again it changes nothing.
#   ./prepare.sh renew                 makes the certificates anew, under the same authority
set -euo pipefail
renew=no
case ${1:-} in
  '') ;;
  renew) renew=yes ;;
  *) echo "usage: $0 [renew]" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

# Two key pairs for tokens: the issuer's (your identity provider's public key in earnest), and that of scheduler and dispatcher.
# Containers read single files as a user of their own; the folder keeps everybody else out.
# A public key that is there stays, since it may be your identity provider's.
for name in issuer service; do
  [ -e "secrets/$name.pub.pem" ] && continue
  [ -e "secrets/$name.pem" ] || openssl genpkey -algorithm ed25519 -out "secrets/$name.pem"
  openssl pkey -in "secrets/$name.pem" -pubout -out "secrets/$name.pub.pem"
  chmod 0644 "secrets/$name.pub.pem"
done
chmod 0644 secrets/service.pem

# For compose.tls.yaml: an authority, and certificates of a year for Kafka, Postgres and Saldo, each for both sides of a connection.
# Saldo reads new ones by itself, Kafka and Postgres want a restart.
if [ ! -e secrets/ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Saldo's own authority" \
    -keyout secrets/ca.key.pem -out secrets/ca.pem 2>/dev/null
fi
# A container sees what is written into the file that it was given, and not another file in its place.
certify() {
  local name=$1 names=$2
  [ -e "secrets/$name.cert.pem" ] && [ $renew = no ] && return
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
    -keyout secrets/new.key.pem -out secrets/new.csr 2>/dev/null
  openssl x509 -req -in secrets/new.csr -CA secrets/ca.pem -CAkey secrets/ca.key.pem -days 365 -extfile <(
    echo "subjectAltName=$names"
    echo "extendedKeyUsage=serverAuth,clientAuth"
  ) -out secrets/new.cert.pem 2>/dev/null
  cat secrets/new.key.pem >"secrets/$name.key.pem"
  cat secrets/new.cert.pem >"secrets/$name.cert.pem"
  rm secrets/new.*
}
certify kafka DNS:kafka-1,DNS:kafka-2,DNS:kafka-3
certify postgres DNS:postgres
certify saldo DNS:localhost,IP:127.0.0.1,DNS:command-1,DNS:command-2,DNS:query-1,DNS:query-2
# Kafka wants both in one file.
cat secrets/kafka.key.pem secrets/kafka.cert.pem >secrets/kafka.pem
chmod 0644 secrets/ca.pem secrets/kafka.pem secrets/{saldo,postgres}.{cert,key}.pem

if [ ! -e .env ]; then
  {
    echo "POSTGRES_PASSWORD=$(openssl rand -hex 24)"
    echo "KAFKA_CLUSTER_ID=$(openssl rand 16 | base64 | tr '+/' '-_' | tr -d '=')"
    echo "# The mail server; without it mails go to the one on http://127.0.0.1:8025"
    echo "# SALDO_SMTP=smtps://user:password@mail.example.com"
  } >.env
fi
echo "ready: secrets/ and .env"
