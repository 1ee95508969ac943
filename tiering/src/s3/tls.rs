//! What TLS trusts: the certificates of the system, and those of one file. Checks are never off.

use akidb_vfs::{Fs, read_file};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use std::{path::Path, sync::Arc};

/// The settings of TLS for a client. Names the provider of the arithmetic itself: the default of the
/// process is the host's to choose.
pub(super) fn config(fs: &dyn Fs, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are as good as absent: what they would have
    // signed is refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let bytes = read_file(fs, path).map_err(|error| format!("the CA file: {error}"))?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let failed = |detail: String| format!("the CA file {}: {detail}", path.display());
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(format!("the CA file {} holds no certificate", path.display()));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
