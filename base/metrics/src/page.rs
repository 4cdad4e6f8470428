//! The text that Prometheus reads (exposition format 0.0.4).

use crate::{Histogram, shown};
use std::{collections::BTreeMap, fmt::Write as _};

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
    /// A sum and a count.
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// What one scrape gets: families in order of name.
#[derive(Default)]
pub struct Page {
    families: BTreeMap<String, Family>,
}

struct Family {
    head: String,
    samples: String,
}

/// The place of one family on a page.
pub struct Section<'p> {
    name: &'p str,
    out: &'p mut String,
}

impl Page {
    /// The place of a family; one that has no samples is not shown.
    pub fn section<'p>(&'p mut self, name: &'p str, kind: Kind, help: &str) -> Section<'p> {
        let family = self.families.entry(name.to_owned()).or_insert_with(|| {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            Family {
                head: format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()),
                samples: String::new(),
            }
        });
        Section {
            name,
            out: &mut family.samples,
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        let shown = self.families.into_values().filter(|f| !f.samples.is_empty());
        let mut out = String::new();
        for family in shown {
            out.push_str(&family.head);
            out.push_str(&family.samples);
        }
        out
    }
}

impl Section<'_> {
    /// One value.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
    }

    /// A sum and a count, without quantiles.
    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    pub fn summary(&mut self, labels: &[(&str, &str)], sum: f64, count: u64) {
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64);
    }

    /// Buckets, sum and count.
    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (bound, total) in histogram.cumulated() {
            self.line("_bucket", labels, Some(bound), total as f64);
            count = total;
        }
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, count as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<f64>, value: f64) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut open = '{';
        for (name, value) in labels {
            let _ = write!(self.out, "{open}{name}=\"");
            escape(self.out, value);
            self.out.push('"');
            open = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.out, "{open}le=\"{}\"", shown(bound));
            open = ',';
        }
        let end = if open == ',' { "} " } else { " " };
        let _ = writeln!(self.out, "{end}{}", shown(value));
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Buckets, Family, Kind, Page};

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let requests = Family::counters("requests_total", "Requests.", ["code", "verb"]);
        requests.with(["200", "GET"]).add(3);
        requests.with(["200", "\"\\\n"]).inc();
        let times = Family::histograms("a_seconds", "Times.", ["x"], Buckets::seconds(&[0.5, 1.0]));
        times.with(["y"]).observe(0.75);
        let mut page = Page::default();
        requests.show(&mut page);
        times.show(&mut page);
        page.section("up", Kind::Gauge, "Whether it is up.").sample(&[], 1.0);
        page.section("never", Kind::Counter, "Nothing.");
        assert_eq!(
            page.finish(),
            "# HELP a_seconds Times.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{x=\"y\",le=\"0.5\"} 0\na_seconds_bucket{x=\"y\",le=\"1\"} 1\n\
             a_seconds_bucket{x=\"y\",le=\"+Inf\"} 1\na_seconds_sum{x=\"y\"} 0.75\na_seconds_count{x=\"y\"} 1\n\
             # HELP requests_total Requests.\n# TYPE requests_total counter\n\
             requests_total{code=\"200\",verb=\"\\\"\\\\\\n\"} 1\nrequests_total{code=\"200\",verb=\"GET\"} 3\n\
             # HELP up Whether it is up.\n# TYPE up gauge\nup 1\n"
        );
    }
}
