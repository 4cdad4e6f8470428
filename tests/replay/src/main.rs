//! `strata-replay`: the recorded requests of `requests/`, sent to kube-apiserver and to Strata in one run, and every
//! difference of the answers and of what the audit logs say of them.
//!
//! For: showing that no client can tell the two apart. Not for: speed, or what happens without a request.
//! Answers may differ only at the field paths of `allowed.txt`. Start at [`script::Request`] for what is sent and
//! [`canonical::Canon`] for what is masked.

mod answer;
mod audit;
mod canonical;
mod compare;
mod openapi;
mod script;
mod send;
mod servers;

use canonical::Canon;
use clap::Parser;
use compare::Allowed;
use script::{Request, Variables};
use serde_json::{Value, json};
use servers::{Process, Server};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long what a server does on its own may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Any failure of the comparison itself, with a sentence.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Replays the recorded requests; `make golden` calls it.
#[derive(Parser, Clone, Debug)]
#[command(name = "strata-replay", max_term_width = 100)]
pub struct Options {
    /// The built strata.
    #[arg(long)]
    pub strata: PathBuf,
    /// Folder with etcd and kube-apiserver.
    #[arg(long)]
    pub peers: PathBuf,
    /// Folder with the requests and the allowed differences.
    #[arg(long, default_value = "tests/replay")]
    pub folder: PathBuf,
    /// Only files whose name contains this.
    #[arg(long, default_value = "")]
    pub only: String,
    /// More field paths that may differ, while something is being built.
    #[arg(long)]
    pub also: Vec<String>,
    /// Show the answers of requests whose title contains this.
    #[arg(long)]
    pub show: Option<String>,
    /// Differences shown for each request.
    #[arg(long, default_value_t = 12)]
    pub shown: usize,
}

impl Options {
    fn shows(&self, request: &Request) -> bool {
        self.show.as_ref().is_some_and(|part| request.title.contains(part))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(replay(&options)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("strata-replay: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One of the two, with what is known about its names and revisions.
struct Side {
    server: Server,
    canon: Canon,
    variables: Variables,
}

impl Side {
    fn new(server: Server) -> Self {
        Self {
            canon: Canon::new(server.port),
            variables: Variables::default(),
            server,
        }
    }

    /// The answer, and what the audit log calls the request.
    async fn answer(&mut self, number: usize, request: &Request) -> Outcome<(Value, String)> {
        let mut filled = request.filled(&self.variables)?;
        let began = Instant::now();
        let mut attempt = 0;
        let raw = loop {
            attempt += 1;
            filled.named(&audit::name(number, attempt));
            let answer = send::send(&self.server, &filled).await;
            let raw = answer.unwrap_or_else(|why| serde_json::json!({"failed": why.to_string()}));
            if request.is_awaited(&raw) || began.elapsed() > PATIENCE {
                break raw;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        self.variables.save(request, &raw);
        Ok((self.canon.mask(raw), audit::name(number, attempt)))
    }
}

/// How many requests were answered differently.
async fn replay(options: &Options) -> Outcome<usize> {
    let files = files(&options.folder.join("requests"), &options.only)?;
    let mut allowed = Allowed::read(&options.folder.join("allowed.txt"))?;
    allowed.also(&options.also);
    let work = tempfile::Builder::new().prefix("strata-replay-").tempdir()?;
    let (strata, _own) = servers::strata(options, work.path()).await?;
    let (upstream, _peers): (Server, [Process; 2]) = servers::upstream(options, work.path(), &strata).await?;
    let (mut upstream, mut strata) = (Side::new(upstream), Side::new(strata));
    let (mut sent, mut different) = (0, 0);
    let mut script = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        script.extend(script::read(&file)?.into_iter().map(|request| (name.clone(), request)));
    }
    if "openapi documents".contains(&options.only) {
        let index = upstream.answer(0, &openapi::index()).await?.0;
        let documents = openapi::requests(&index).into_iter();
        script.extend(documents.map(|request| ("openapi documents".to_owned(), request)));
    }
    let mut pairs = Vec::new();
    for (number, (name, request)) in script.iter().enumerate() {
        let (theirs, their_name) = upstream.answer(number + 1, request).await?;
        let (ours, our_name) = strata.answer(number + 1, request).await?;
        pairs.push((their_name, our_name));
        sent += 1;
        if options.shows(request) {
            println!("{}\nupstream: {theirs:#}\nstrata: {ours:#}", request.title);
        }
        different += usize::from(tell(options, &mut allowed, (name, request), (&theirs, &ours)));
    }
    let unheard = heard(options, &mut allowed, &script, (&mut upstream, &mut strata), &pairs).await?;
    for path in allowed.unused() {
        println!("allowed but not seen: {path}");
    }
    println!(
        "golden: {sent} requests, {} equal, {different} differ; in the audit log {unheard} differ",
        sent - different
    );
    Ok(different + unheard)
}

/// Of how many requests the audit logs tell differently.
async fn heard(
    options: &Options,
    allowed: &mut Allowed,
    script: &[(String, Request)],
    (upstream, strata): (&mut Side, &mut Side),
    pairs: &[(String, String)],
) -> Outcome<usize> {
    let (mut theirs, mut ours) = audit::read(&upstream.server.audit, &strata.server.audit, pairs).await?;
    let mut different = 0;
    for ((name, request), (their_name, our_name)) in script.iter().zip(pairs) {
        let theirs = json!({"audit": theirs.remove(their_name).unwrap_or_default()});
        let ours = json!({"audit": ours.remove(our_name).unwrap_or_default()});
        let (mut theirs, ours) = (upstream.canon.mask(theirs), strata.canon.mask(ours));
        audit::lost(&mut theirs["audit"], &ours["audit"]);
        if options.shows(request) {
            println!("{}\nupstream: {theirs:#}\nstrata: {ours:#}", request.title);
        }
        different += usize::from(tell(options, allowed, (name, request), (&theirs, &ours)));
    }
    Ok(different)
}

/// Prints where two values differ and may not; whether they do.
fn tell(
    options: &Options,
    allowed: &mut Allowed,
    (file, request): (&str, &Request),
    (theirs, ours): (&Value, &Value),
) -> bool {
    let mut found = compare::differences(theirs, ours);
    found.retain(|difference| !allowed.covers(&difference.path));
    if found.is_empty() {
        return false;
    }
    println!("{file}: {} ({} {})", request.title, request.method, request.path);
    for difference in found.iter().take(options.shown) {
        println!("    {difference}");
    }
    if found.len() > options.shown {
        println!("    … {} more", found.len() - options.shown);
    }
    true
}

fn files(folder: &Path, only: &str) -> Outcome<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "http"))
        .filter(|path| path.to_string_lossy().contains(only))
        .collect();
    files.sort();
    Ok(files)
}
