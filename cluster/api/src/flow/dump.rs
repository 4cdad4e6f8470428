//! /debug/api_priority_and_fairness: what waits and what runs, level by level, queue by queue, request by request.
//!
//! Requests of levels that let everything through are counted and not listed: nothing is kept of them.

use super::{Flow, classify::Schema, level::Level};
use crate::{pipeline::Call, request::RequestInfo};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use strata_auth::UserInfo;
use strata_meta::{GroupVersion, MicroTime};

/// What is kept of a request while it waits and runs.
#[derive(Default)]
pub(super) struct About {
    schema: String,
    distinguisher: String,
    arrived: Option<MicroTime>,
    width: u32,
    after: Option<(u32, Duration)>,
    user: Arc<UserInfo>,
    info: RequestInfo,
}

impl About {
    /// A request that arrives now.
    pub(super) fn new(schema: &Schema, call: &Call, width: u32, after: Option<(u32, Duration)>) -> Self {
        Self {
            schema: schema.name.clone(),
            distinguisher: schema.distinguisher(&call.user, &call.info).to_owned(),
            arrived: Some(MicroTime::now()),
            width,
            after,
            user: call.user.clone(),
            info: call.info.clone(),
        }
    }

    fn cells(&self, details: bool, level: &str, place: (i64, i64), started: Option<MicroTime>) -> Vec<String> {
        let (seats, latency) = self.after.unwrap_or_default();
        // Go's zero time.
        let time = |at: Option<MicroTime>| at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
        let mut cells = vec![
            level.to_owned(),
            self.schema.clone(),
            place.0.to_string(),
            place.1.to_string(),
            self.distinguisher.clone(),
            time(self.arrived),
            self.width.to_string(),
            seats.to_string(),
            match latency.as_millis() {
                0 => "0s".to_owned(),
                millis => format!("{millis}ms"),
            },
            time(started),
        ];
        if details {
            let info = &self.info;
            let version = GroupVersion::new(&info.group, &info.version).to_string();
            cells.push(self.user.name.clone());
            cells.push(info.verb.to_owned());
            cells.extend([&info.path, &info.namespace, &info.name].map(Clone::clone));
            cells.push(version);
            cells.extend([&info.resource, &info.subresource].map(Clone::clone));
        }
        cells
    }
}

impl Flow {
    /// One of the pages. `None` if there is no such page.
    pub(crate) fn dump(&self, page: &str, details: bool) -> Option<String> {
        let config = self.config();
        let mut levels: Vec<&Arc<Level>> = config.levels.values().collect();
        levels.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = match page {
            "dump_priority_levels" => {
                let of = |level: &Arc<Level>| priority_level(level, &config.schemas);
                std::iter::once(words(PRIORITY_LEVEL))
                    .chain(levels.into_iter().map(of))
                    .collect()
            }
            "dump_queues" => std::iter::once(words(QUEUE))
                .chain(levels.into_iter().flat_map(|l| queues(l)))
                .collect(),
            "dump_requests" => {
                let mut head = words(REQUEST);
                if details {
                    head.extend(words(DETAILS));
                }
                std::iter::once(head)
                    .chain(levels.into_iter().flat_map(|level| requests(level, details)))
                    .collect()
            }
            _ => return None,
        };
        Some(aligned(rows))
    }
}

const PRIORITY_LEVEL: &str = "PriorityLevelName ActiveQueues IsIdle IsQuiescing WaitingRequests ExecutingRequests DispatchedRequests RejectedRequests TimedoutRequests CancelledRequests";
const QUEUE: &str = "PriorityLevelName Index PendingRequests ExecutingRequests SeatsInUse NextDispatchR InitialSeatsSum MaxSeatsSum TotalWorkSum";
const REQUEST: &str = "PriorityLevelName FlowSchemaName QueueIndex RequestIndexInQueue FlowDistingsher ArriveTime InitialSeats FinalSeats AdditionalLatency StartTime";
const DETAILS: &str = "UserName Verb APIPath Namespace Name APIVersion Resource SubResource";

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn priority_level(level: &Arc<Level>, schemas: &[Arc<Schema>]) -> Vec<String> {
    let (waiting, executing) = level.counts();
    let active = level
        .waiting()
        .iter()
        .filter(|(waiting, _)| !waiting.is_empty())
        .count();
    let own = schemas.iter().filter(|schema| schema.level.name == level.name);
    let [dispatched, rejected, timed_out] = own.fold([0; 3], |sum, schema| {
        let one = schema.counters.outcomes();
        [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]
    });
    vec![
        level.name.clone(),
        active.to_string(),
        (waiting == 0 && executing == 0).to_string(),
        "false".to_owned(),
        waiting.to_string(),
        executing.to_string(),
        dispatched.to_string(),
        rejected.to_string(),
        timed_out.to_string(),
        level.cancelled().to_string(),
    ]
}

fn queues(level: &Level) -> Vec<Vec<String>> {
    let running = level.running();
    let row = |(at, (waiting, given)): (usize, (Vec<Arc<About>>, u64))| {
        let of_queue = running.iter().filter(|(_, _, queue)| *queue == Some(at));
        let (executing, seats) = of_queue.fold((0, 0), |(n, seats), (about, ..)| (n + 1, seats + about.width));
        let first: u32 = waiting.iter().map(|about| about.width).sum();
        let widest: u32 = waiting
            .iter()
            .map(|about| about.width.max(about.after.map_or(0, |a| a.0)))
            .sum();
        vec![
            level.name.clone(),
            at.to_string(),
            waiting.len().to_string(),
            executing.to_string(),
            seats.to_string(),
            format!("{given}.00000000ss"),
            first.to_string(),
            widest.to_string(),
            format!("{first}.00000000ss"),
        ]
    };
    level.waiting().into_iter().enumerate().map(row).collect()
}

fn requests(level: &Level, details: bool) -> Vec<Vec<String>> {
    let number = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
    let mut rows = Vec::new();
    for (queue, (waiting, _)) in level.waiting().into_iter().enumerate() {
        for (at, about) in waiting.iter().enumerate() {
            rows.push(about.cells(details, &level.name, (number(queue), number(at)), None));
        }
    }
    for (about, started, queue) in level.running() {
        let place = (queue.map_or(-1, number), -1);
        rows.push(about.cells(details, &level.name, place, Some(started)));
    }
    rows
}

/// Cells one below the other with a comma behind each but the last, as Go's tabwriter lays them out.
fn aligned(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].len() + 2).max().unwrap_or(0).max(8);
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{:<width$}", format!("{cell},"));
        }
        let _ = writeln!(out, "{}", row.last().map_or("", String::as_str));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other() {
        let rows = vec![words("Name Index Last"), words("workload-low 0 x")];
        assert_eq!(aligned(rows), "Name,         Index,  Last\nworkload-low, 0,      x\n");
    }

    #[test]
    fn every_page_has_its_heading() {
        let flow = Flow::new();
        for (page, first) in [
            ("dump_priority_levels", "catch-all,"),
            ("dump_queues", ""),
            ("dump_requests", ""),
        ] {
            let text = flow.dump(page, true).expect("a page");
            assert!(text.starts_with("PriorityLevelName,"), "{text}");
            assert!(text.lines().nth(1).unwrap_or("").starts_with(first), "{text}");
        }
        assert!(flow.dump("dump_nothing", false).is_none());
    }
}
