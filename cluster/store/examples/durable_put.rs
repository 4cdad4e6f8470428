//! Measures durable writes of 1.3 KB: `durable_put DIRECTORY [WRITERS [SECONDS]]`.
//! Prints writes per second and the latency a writer sees.

use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use strata_store::{Expect, LogOptions, LogStore, Store};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = arguments.get(1).ok_or("a directory is needed")?;
    let writers: usize = arguments.get(2).map_or(Ok(1), |text| text.parse())?;
    let seconds: u64 = arguments.get(3).map_or(Ok(5), |text| text.parse())?;
    let store = Arc::new(LogStore::open(Path::new(directory), LogOptions::default())?);
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for number in 0.. {
                    let started = Instant::now();
                    if started > end {
                        break;
                    }
                    let key = Bytes::from(format!("/registry/pods/default/pod-{writer}-{}", number % 1000));
                    store.put(key, Bytes::from(vec![b'x'; 1300]), Expect::Any, None).await?;
                    latencies.push(started.elapsed());
                }
                Ok::<_, strata_store::Error>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    all.sort_unstable();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
    println!(
        "writers {writers}  writes/s {}  p50 {:?}  p99 {:?}  batches {}",
        all.len() as u64 / seconds,
        at(0.5),
        at(0.99),
        store.status().batches,
    );
    Ok(())
}
