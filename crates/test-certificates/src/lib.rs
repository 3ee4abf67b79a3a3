//! Certificates for tests: authorities, and what they certify, as PEM files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SerialNumber};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Somebody who certifies.
pub struct Authority {
    /// Its own certificate (PEM).
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, both PEM.
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

/// From when until when, in days from now; negative ones are past.
#[derive(Clone, Copy)]
pub struct Valid(pub i64, pub i64);

/// Valid today.
pub const VALID: Valid = Valid(-1, 365);
/// It was.
pub const EXPIRED: Valid = Valid(-30, -1);

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[], Valid(-365, 3650));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certifies these host names or IP addresses.
    pub fn certify(&self, names: &[&str], valid: Valid) -> Certified {
        self.certify_as("saldo", names, valid, 1)
    }

    /// The same, for a subject and under a serial number of one's own.
    pub fn certify_as(&self, subject: &str, names: &[&str], valid: Valid, serial: u64) -> Certified {
        let mut params = params(subject, names, valid);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Certified { certificate, key: key.serialize_pem() }
    }

    /// Writes its certificate into a folder.
    pub fn write(&self, dir: &Path, name: &str) -> io::Result<PathBuf> {
        let path = dir.join(format!("{name}.pem"));
        fs::write(&path, &self.pem).map(|()| path)
    }
}

impl Certified {
    /// Writes certificate and key into a folder: the paths of both.
    pub fn write(&self, dir: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
        fs::write(&certificate, &self.certificate)?;
        fs::write(&key, &self.key)?;
        Ok((certificate, key))
    }
}

fn params(name: &str, names: &[&str], Valid(from, until): Valid) -> CertificateParams {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(from).into();
    params.not_after = at(until).into();
    params
}

fn at(days: i64) -> SystemTime {
    #[allow(clippy::disallowed_methods, reason = "certificates are valid in real time")]
    let now = SystemTime::now();
    let span = DAY * days.unsigned_abs() as u32;
    if days < 0 { now - span } else { now + span }
}
