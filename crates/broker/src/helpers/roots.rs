//! Whom webhooks trust over TLS: the public roots, and those that the operator adds.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Certificates of the operator's, each of which can be a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// Why a text holds no roots.
#[derive(Debug, PartialEq, Eq)]
pub enum RootsError {
    /// There is no certificate in it.
    None,
    /// A section of its PEM, counted from 1, is damaged, or is no certificate that can be a root.
    Damaged(usize),
}

impl fmt::Display for RootsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootsError::None => out.write_str("no certificate in PEM"),
            RootsError::Damaged(number) => write!(out, "certificate {number} cannot be read"),
        }
    }
}

impl std::error::Error for RootsError {}

impl Roots {
    /// Reads all certificates of a text in PEM; all must be good.
    pub fn read(pem: &[u8]) -> Result<Roots, RootsError> {
        let mut store = RootCertStore::empty();
        let mut roots = Vec::new();
        for (place, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let damaged = RootsError::Damaged(place + 1);
            let Ok(certificate) = read else {
                return Err(damaged);
            };
            if store.add(certificate.clone()).is_err() {
                return Err(damaged);
            }
            roots.push(certificate);
        }
        match roots.is_empty() {
            true => Err(RootsError::None),
            false => Ok(Roots(roots)),
        }
    }

    /// These, and the public ones.
    pub fn with_public(&self) -> RootCerts {
        let all = TLS_SERVER_ROOT_CERTS.iter().chain(&self.0);
        let all = all.map(|certificate| Certificate::from_der(certificate).to_owned());
        RootCerts::Specific(Arc::new(all.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;

    fn pem() -> String {
        let made = generate_simple_self_signed(vec!["localhost".to_owned()]);
        made.unwrap().cert.pem()
    }

    #[test]
    fn certificates_are_added_to_the_public_ones() {
        let two = Roots::read(format!("ours:\n{}{}", pem(), pem()).as_bytes()).unwrap();
        assert_eq!(two.0.len(), 2);
        let RootCerts::Specific(all) = two.with_public() else {
            panic!("no list");
        };
        assert_eq!(all.len(), TLS_SERVER_ROOT_CERTS.len() + 2);
        assert!(all.len() > 50, "the public ones are missing");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let good = pem();
        let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let torn = &good[..good.len() / 2];
        for (text, why) in [
            (String::new(), RootsError::None),
            ("x".to_owned(), RootsError::None),
            (no_der.to_owned(), RootsError::Damaged(1)),
            (format!("{good}{no_der}"), RootsError::Damaged(2)),
            (format!("{good}{torn}"), RootsError::Damaged(2)),
        ] {
            assert_eq!(Roots::read(text.as_bytes()), Err(why), "{text}");
        }
    }
}
