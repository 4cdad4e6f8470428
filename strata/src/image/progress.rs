//! Layers on their way: a bar each on a terminal, a line for each step elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use strata_image::{Digest, LayerState, Progress, ProgressSender};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Reports that may wait; more are dropped, the last of a layer never is for long.
const QUEUE: usize = 4096;
/// More layers than fit a screen are still counted, but drawn no more.
const MAX_BARS: usize = 200;

/// What a person sees of a pull or push.
pub struct Bars {
    sender: ProgressSender,
    task: JoinHandle<()>,
}

impl Bars {
    /// Nothing is shown if `quiet`; `done` is said of a layer that is finished.
    pub fn new(quiet: bool, done: &'static str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let terminal = std::io::stdout().is_terminal();
        let task = tokio::spawn(async move {
            match (quiet, terminal) {
                (true, _) => drain(receiver).await,
                (false, true) => draw(receiver, done).await,
                (false, false) => lines(receiver, done).await,
            }
        });
        Self { sender, task }
    }

    /// Where reports go.
    pub fn sender(&self) -> ProgressSender {
        self.sender.clone()
    }

    /// Waits until all that was reported is shown.
    pub async fn finish(self) {
        drop(self.sender);
        // A drawing task that fell over took nothing with it that matters.
        let _ = self.task.await;
    }
}

async fn drain(mut reports: mpsc::Receiver<Progress>) {
    while reports.recv().await.is_some() {}
}

async fn lines(mut reports: mpsc::Receiver<Progress>, done: &str) {
    let mut said: HashMap<Digest, &str> = HashMap::new();
    while let Some(report) = reports.recv().await {
        let word = word(report.state, done);
        let before = said.insert(report.layer, word);
        if before != Some(word) {
            println!("{}: {word}", report.layer.short());
        }
    }
}

async fn draw(mut reports: mpsc::Receiver<Progress>, done: &str) {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let moving = style("{prefix}: {msg} [{bar:50}] {bytes}/{total_bytes}");
    let still = style("{prefix}: {msg}");
    let mut bars: HashMap<Digest, ProgressBar> = HashMap::new();
    while let Some(report) = reports.recv().await {
        if bars.len() >= MAX_BARS && !bars.contains_key(&report.layer) {
            continue;
        }
        let bar = bars.entry(report.layer).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(0));
            bar.set_style(still.clone());
            bar.set_prefix(report.layer.short());
            bar
        });
        bar.set_message(word(report.state, done).to_owned());
        match report.state {
            LayerState::Fetching { done, total } | LayerState::Pushing { done, total } => {
                bar.set_style(moving.clone());
                bar.set_length(total);
                bar.set_position(done);
            }
            LayerState::Waiting => bar.tick(),
            _ => {
                bar.set_style(still.clone());
                bar.abandon();
            }
        }
    }
    for bar in bars.values() {
        bar.abandon();
    }
    // The last bar leaves the cursor behind it.
    if !bars.is_empty() {
        println!();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn word(state: LayerState, done: &str) -> &str {
    match state {
        LayerState::Waiting if done == "Pushed" => "Preparing",
        LayerState::Waiting => "Pulling fs layer",
        LayerState::Present if done == "Pushed" => "Layer already exists",
        LayerState::Present => "Already exists",
        LayerState::Fetching { .. } => "Downloading",
        LayerState::Pushing { .. } => "Pushing",
        LayerState::Mounted => "Mounted from another repository",
        LayerState::Done => done,
        _ => "Working",
    }
}
