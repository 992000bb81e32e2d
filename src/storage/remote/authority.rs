//! Certificates that a mirror names itself: a CA of one's own, or the very certificate of a server that nobody has signed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::base::escape::escape;

/// Bytes of such a file, at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the certificates of a file.
///
/// # Errors
/// A sentence that names it.
pub(super) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let failed = |why: String| format!("the file of certificates {shown} (option ca_file) {why}");
    let length = path.metadata().map_err(|error| failed(format!("cannot be read: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed("is too long".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            Err(failed("has no certificate in it: expected the PEM format, -----BEGIN CERTIFICATE-----".to_owned()))
        }
        Err(error) => Err(failed(format!("is not understood: {error}"))),
    }
}

/// TLS in which these certificates count, and no others.
pub(super) fn config(
    provider: Arc<CryptoProvider>,
    given: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in &given {
        roots.add(certificate.clone())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Given { inner, given };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// As the inner one, and a server may also show exactly what was given: one that signs itself is no authority for others.
#[derive(Debug)]
struct Given {
    inner: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.given.contains(certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.inner.verify_server_cert(certificate, between, name, stapled, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use crate::storage::remote::connector::Connector;
    use rustls::pki_types::PrivateKeyDer;
    use std::time::Duration;
    use tower_service::Service as _;

    /// Certificates and keys that are made for these tests, for localhost: of a CA, of a host that it has signed for, and of one that signs itself.
    const CA: &str = include_str!("../../../tests/certificates/ca.pem");
    const HOST: [&str; 2] =
        [include_str!("../../../tests/certificates/host.pem"), include_str!("../../../tests/certificates/host.key")];
    const SELF: [&str; 2] =
        [include_str!("../../../tests/certificates/self.pem"), include_str!("../../../tests/certificates/self.key")];

    fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    /// A server that speaks TLS with this certificate and its key.
    fn server([certificate, key]: [&'static str; 2]) -> u16 {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(certificates(certificate), key).unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = stream.unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
            }
        });
        port
    }

    #[test]
    fn only_the_certificates_that_are_named_count() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let patience = Duration::from_secs(20);
        for (named, shown, host, refused) in [
            (Some(CA), HOST, "localhost", None),
            (Some(SELF[0]), SELF, "localhost", None),
            (Some(CA), HOST, "127.0.0.1", Some("not valid for name")),
            (Some(SELF[0]), SELF, "127.0.0.1", Some("not valid for name")),
            (Some(CA), SELF, "localhost", Some("invalid peer certificate")),
            (Some(SELF[0]), HOST, "localhost", Some("invalid peer certificate")),
            (None, HOST, "localhost", Some("certificate")),
        ] {
            let mut connector = Connector::new(patience, patience, named.map(certificates));
            let to = format!("https://{host}:{}/", server(shown)).parse().unwrap();
            let connected = runtime.block_on(async { connector.call(to).await });
            let error = connected.err().map(|error| error.to_string());
            match refused {
                None => assert_eq!(error, None),
                Some(words) => assert!(error.as_ref().is_some_and(|error| error.contains(words)), "{words}: {error:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_has_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let torn = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        for (path, why) in [
            (folder.path().join("none"), "cannot be read"),
            (folder.path().to_path_buf(), "cannot be read"),
            (file("empty", ""), "has no certificate"),
            (file("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "has no certificate"),
            (file("torn", torn), "is not understood"),
        ] {
            let error = read(&path).unwrap_err();
            assert!(error.contains(why) && error.contains("ca_file"), "{path:?}: {error}");
        }
        // What is in it has to be a certificate.
        let nonsense = file("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        assert!(config(provider, read(&nonsense).unwrap()).is_err());
    }
}
