//! Many containers at once.

mod support;

use support::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn many_containers_start_at_once() {
    let bench = Bench::new().await;
    let image = bench.image();
    let work = (0..10).map(|index| {
        let (bench, image) = (&bench, image.clone());
        async move {
            let sandbox = bench
                .sandbox_with(|config| {
                    config.cgroup_parent = format!("{}/kubepods/pod{index}", bench.cgroup);
                    config.log_dir = bench.folder.path().join(format!("logs{index}"));
                })
                .await;
            let mut config = bench.shell_of(image, &format!("exit {index}"));
            config.log_path = "c/0.log".into();
            let status = bench.run(&sandbox, config).await;
            assert_eq!(status.exit_code, Some(index));
            bench.engine().remove_sandbox(&sandbox.id).await.expect("remove");
        }
    });
    futures::future::join_all(work).await;
    assert!(bench.engine().list_sandboxes().is_empty());
}
