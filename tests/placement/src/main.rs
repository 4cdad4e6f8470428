//! `strata-placement`: random clusters, about which kube-scheduler's own framework and plugins are
//! asked (the oracle, a Go program) and ours, and every difference between the two.
//!
//! For: showing that pods are placed as upstream places them: the same nodes do, scores order them
//! alike, refusals read the same, the same pods have to go. Not for: speed, or the queue.
//! Start at [`case::Case`] for what is asked and [`compare`] for what is compared.

mod case;
mod compare;
mod config;
mod nodes;
mod pods;
mod random;
mod storage;

use case::Case;
use clap::Parser;
use compare::Answer;
use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
};

/// Compares placement with upstream's; `make placement` calls it.
#[derive(Parser)]
#[command(name = "strata-placement", max_term_width = 100)]
struct Options {
    /// The built oracle.
    #[arg(long)]
    oracle: PathBuf,
    /// How many clusters.
    #[arg(long, default_value_t = 500)]
    clusters: u64,
    /// The seed of the first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clusters whose differences are shown.
    #[arg(long, default_value_t = 10)]
    show: usize,
    /// Print the cluster of the first seed as the oracle reads it, and stop.
    #[arg(long)]
    print: bool,
    /// Where the figures are written.
    #[arg(long)]
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("placement: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many clusters differ.
fn run(options: &Options) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let seeds = options.seed..options.seed + options.clusters;
    if options.print {
        println!("{}", serde_json::to_string(&Case::new(options.seed))?);
        return Ok(0);
    }
    let mut oracle = Command::new(&options.oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut asked = oracle.stdin.take().ok_or("the oracle has no input")?;
    let answered = oracle.stdout.take().ok_or("the oracle has no output")?;
    // Asked from a thread of its own, since answers come while more is asked.
    let asking = thread::spawn({
        let seeds = seeds.clone();
        move || -> std::io::Result<()> {
            for seed in seeds {
                serde_json::to_writer(&mut asked, &Case::new(seed))?;
                asked.write_all(b"\n")?;
            }
            Ok(())
        }
    });
    let mut tally = Tally::default();
    let mut shown = 0;
    for line in BufReader::new(answered).lines() {
        let answer: Answer = serde_json::from_str(&line?)?;
        let case = Case::new(answer.seed);
        tally.count(&answer);
        let found =
            compare::differences(&case, &answer).unwrap_or_else(|error| vec![format!("seed {}: {error}", case.seed)]);
        if found.is_empty() {
            tally.passed += 1;
            continue;
        }
        tally.failed += 1;
        if shown < options.show {
            shown += 1;
            found.iter().for_each(|line| println!("{line}"));
        }
    }
    asking.join().map_err(|_| "asking the oracle failed")??;
    let ended = oracle.wait()?;
    if !ended.success() || tally.passed + tally.failed != options.clusters {
        return Err(format!("the oracle ended early: {ended}").into());
    }
    let text = tally.text(options);
    if let Some(path) = &options.results {
        std::fs::write(path, &text)?;
    }
    print!("{text}");
    println!("placement: {} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed)
}

/// What was compared, so that nobody takes easy clusters for hard ones.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    pods: u64,
    somewhere: u64,
    several: u64,
    preempting: u64,
    victims: u64,
    reasons: HashMap<String, u64>,
    plugins: HashMap<String, u64>,
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        for pod in answer.pods.iter().flatten() {
            self.pods += 1;
            self.somewhere += u64::from(!pod.feasible.is_empty());
            self.several += u64::from(pod.feasible.len() > 1);
            self.preempting += u64::from(!pod.candidates.is_empty());
            let victims = pod.candidates.values().filter_map(|one| one.victims.as_ref());
            self.victims += victims.map(|victims| victims.len() as u64).sum::<u64>();
            for plugin in pod.scores.values().take(1).flat_map(|of| of.keys()) {
                *self.plugins.entry(plugin.clone()).or_default() += 1;
            }
            let (_, reasons) = pod.message.split_once(": ").unwrap_or(("", ""));
            let reasons = reasons.split(". preemption").next().unwrap_or("");
            for reason in reasons
                .trim_end_matches('.')
                .split(", ")
                .filter(|reason| !reason.is_empty())
            {
                let reason = reason.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
                *self.reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }

    fn text(&self, options: &Options) -> String {
        let mut text = String::from("# Placement beside kube-scheduler v1.36.3\n\n");
        let last = options.seed + options.clusters - 1;
        let _ = writeln!(
            text,
            "`make placement`: clusters of the seeds {} to {last}, {} of {} alike in every pod.\n",
            options.seed, self.passed, options.clusters
        );
        let _ = writeln!(text, "| compared | pods |\n|---|---|");
        for (what, count) in [
            ("all that wait", self.pods),
            ("fit somewhere", self.somewhere),
            ("fit on several nodes, whose scores are compared", self.several),
            ("preemption would make room", self.preempting),
            ("pods that would have to go, over all candidates", self.victims),
        ] {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        for (title, counts) in [("scored by", &self.plugins), ("refused because", &self.reasons)] {
            let _ = writeln!(text, "\n| {title} | pods |\n|---|---|");
            let mut sorted: Vec<_> = counts.iter().collect();
            sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
            for (name, count) in sorted {
                let _ = writeln!(text, "| {} | {count} |", name.replace('|', "\\|"));
            }
        }
        text
    }
}
