//! Encrypted connections, with certificates of a certificate authority made here.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use wanwright_nats::accounts::{Authority, Role};
use wanwright_nats::{Access, NatsError, Tls};
use wanwright_supervisor::{NatsOptions, SyncInterval};

use crate::world::PARTITIONS;

/// A certificate authority in a folder.
struct Ca {
    dir: PathBuf,
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new(dir: &Path, name: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Self { dir: dir.to_owned(), name, issuer: Issuer::new(params, key) }
    }

    fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate and its key.
    fn sign(&self, who: &str, usage: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |ending: &str| self.dir.join(format!("{}-{who}.{ending}", self.name));
        std::fs::write(file("pem"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_both_ends_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (Ca::new(dir.path(), "ours"), Ca::new(dir.path(), "others"));
    let (certificate, key) = ours.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    let client = ours.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = others.sign("client", ExtendedKeyUsagePurpose::ClientAuth);

    let keys = Authority::open_or_make(&dir.path().join("keys"), PARTITIONS).unwrap();
    let accounts = dir.path().join("nats/accounts");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let mut options = NatsOptions::new(dir.path().join("nats"), cache);
    options.sync_interval = SyncInterval::Lazy;
    options.authority = Some(keys.configuration(&accounts).unwrap());
    options.extra = format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, verify: true }}",
        ours.file()
    );
    let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
    let connect = async |authorities: Option<PathBuf>, certificate: Option<(PathBuf, PathBuf)>| {
        let tls = Tls { authorities, certificate };
        let access = Access { tls, ..Access::with_creds(server.url(), keys.role(Role::Admin)) };
        wanwright_nats::connect(access, "test", PARTITIONS).await
    };

    let nats = connect(Some(ours.file()), Some(client.clone())).await.unwrap();
    assert!(nats.client.server_info().tls_required);
    nats.js.query_account().await.unwrap();

    let refused = |result: Result<_, NatsError>| match result {
        Err(NatsError::Connect { .. }) => true,
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    };
    // Somebody else's certificate authority: it may be somebody else's server.
    assert!(refused(connect(Some(others.file()), Some(client.clone())).await));
    // The machine's own authorities do not know ours.
    assert!(refused(connect(None, Some(client)).await));
    // A client without a certificate, and one whose certificate others signed.
    assert!(refused(connect(Some(ours.file()), None).await));
    assert!(refused(connect(Some(ours.file()), Some(stranger)).await));
}
