//! What the oracle says beside what we say.

use crate::case::Case;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{GroupVersionKind, Object, ObjectKey, Revision};
use strata_scheduler::judge::{Judge, Verdict};

/// The oracle's answer about a case.
#[derive(Deserialize)]
pub struct Answer {
    pub seed: u64,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub pods: Option<Vec<Theirs>>,
}

/// What it says about a pod.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct Theirs {
    pub name: String,
    pub error: String,
    pub message: String,
    pub feasible: Vec<String>,
    pub scores: BTreeMap<String, BTreeMap<String, i64>>,
    pub candidates: BTreeMap<String, Candidate>,
    pub chosen: Vec<String>,
}

#[derive(Default, Deserialize)]
pub struct Candidate {
    pub victims: Option<Vec<String>>,
    pub violations: usize,
}

/// Every difference about a case, a line each. Err: the case could not be judged at all.
pub fn differences(case: &Case, answer: &Answer) -> Result<Vec<String>, String> {
    if !answer.error.is_empty() {
        return Err(format!("the oracle: {}", answer.error));
    }
    let objects: Vec<Arc<Object>> = case.objects.iter().map(object).collect::<Result<_, _>>()?;
    let judge = Judge::new(&objects, &case.configuration()?).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for theirs in answer.pods.iter().flatten() {
        let ours = judge.verdict(&ObjectKey::parse(&theirs.name));
        let ours = ours.ok_or_else(|| format!("{} does not wait", theirs.name))?;
        let lines = of_pod(theirs, &ours).into_iter();
        found.extend(lines.map(|line| format!("seed {} {}: {line}", case.seed, theirs.name)));
    }
    Ok(found)
}

fn object(value: &serde_json::Value) -> Result<Arc<Object>, String> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let kind = Arc::new(GroupVersionKind::new(group, version, text("kind")));
    let read = Object::from_value(kind, Revision(1), value);
    read.map(Arc::new).map_err(|error| format!("{error}: {value}"))
}

fn of_pod(theirs: &Theirs, ours: &Verdict) -> Vec<String> {
    let mut found = Vec::new();
    let their_message = if theirs.error.is_empty() {
        &theirs.message
    } else {
        &theirs.error
    };
    if *their_message != ours.message {
        found.push(format!(
            "message\n    theirs {their_message}\n    ours   {}",
            ours.message
        ));
    }
    if theirs.feasible != ours.feasible {
        found.push(format!(
            "feasible\n    theirs {:?}\n    ours   {:?}",
            theirs.feasible, ours.feasible
        ));
        return found;
    }
    found.extend(of_scores(theirs, ours));
    let victims = |candidate: &Candidate| (candidate.victims.clone().unwrap_or_default(), candidate.violations);
    let their_candidates: BTreeMap<_, _> = theirs
        .candidates
        .iter()
        .map(|(node, one)| (node, victims(one)))
        .collect();
    let our_candidates: BTreeMap<_, _> = ours
        .candidates
        .iter()
        .map(|(node, one)| (node, (one.victims.clone(), one.violations)))
        .collect();
    if their_candidates != our_candidates {
        found.push(format!(
            "victims\n    theirs {their_candidates:?}\n    ours   {our_candidates:?}"
        ));
    } else if theirs.chosen != ours.chosen {
        found.push(format!(
            "choice\n    theirs {:?}\n    ours   {:?}",
            theirs.chosen, ours.chosen
        ));
    }
    found
}

/// Scores are compared as they order nodes: by how far each is below the best. A plugin that
/// says nothing ranks all nodes alike.
fn of_scores(theirs: &Theirs, ours: &Verdict) -> Vec<String> {
    let plugins = |scores: &BTreeMap<String, BTreeMap<String, i64>>| -> Vec<String> {
        scores.values().flat_map(BTreeMap::keys).cloned().collect()
    };
    let mut names = plugins(&theirs.scores);
    names.extend(plugins(&ours.scores));
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let below = |scores: &BTreeMap<String, BTreeMap<String, i64>>| -> Vec<i64> {
            let of = |node: &String| scores.get(node).and_then(|of| of.get(&name)).copied().unwrap_or(0);
            let all: Vec<i64> = ours.feasible.iter().map(of).collect();
            let best = all.iter().copied().max().unwrap_or(0);
            all.iter().map(|score| best - score).collect()
        };
        let (their, our) = (below(&theirs.scores), below(&ours.scores));
        if their != our {
            found.push(format!(
                "{name} below the best\n    nodes  {:?}\n    theirs {their:?}\n    ours   {our:?}",
                ours.feasible
            ));
        }
    }
    found
}
