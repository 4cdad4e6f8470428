use super::*;
use crate::ClusterCa;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = ClusterCa::open_or_create(directory.path()).expect("authority");
    let names = ["localhost".to_owned()];
    let mut leaf = ca.issue_server(&names, &[]).expect("leaf");
    let tls = ServerTls::new(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes(), None).expect("TLS");
    // A year that began long enough ago.
    leaf.not_before -= Duration::from_secs(300 * 86400);
    leaf.not_after -= Duration::from_secs(300 * 86400);
    assert!(leaf.renew_at() < SystemTime::now());
    let (issued, mut count) = mpsc::unbounded_channel();
    let issue = move || {
        issued.send(()).expect("heard");
        ca.issue_server(&["localhost".to_owned()], &[])
    };
    let cancel = CancellationToken::new();
    let task = tokio::spawn(keep_renewed(Arc::new(tls), leaf, issue, cancel.clone()));
    tokio::time::timeout(Duration::from_secs(10), count.recv())
        .await
        .expect("renewed")
        .expect("once");
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), task)
        .await
        .expect("ends")
        .expect("no panic");
    assert!(count.try_recv().is_err(), "the new one is not due");
}
