//! The Prometheus text format 0.0.4, written from the counters that the broker keeps anyway.
//!
//! The counters live with the code that counts (plain atomics, rules come and go), so a scrape is the only moment
//! at which names and labels exist; a registry of its own would keep every number twice.

use std::fmt::Write;

/// What a metric is; decides the `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A scrape's text while it is being written.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a metric: every sample until the next call belongs to it.
    pub(super) fn metric(&mut self, name: &'static str, kind: Type, help: &str) -> Metric<'_> {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        // Writing into a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Metric {
            text: &mut self.text,
            name,
        }
    }

    /// Begins a histogram.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
        Metric {
            text: &mut self.text,
            name,
        }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// One metric's samples.
pub(super) struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    /// A sample without labels.
    pub(super) fn value(&mut self, value: impl std::fmt::Display) -> &mut Self {
        self.sample(&[], value)
    }

    /// A histogram's samples; `counts` has one bucket more than `bounds`, for what lies above the last.
    pub(super) fn buckets(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) -> &mut Self {
        let mut total = 0;
        let above = std::iter::once("+Inf".to_owned());
        for (bound, count) in bounds.iter().map(f64::to_string).chain(above).zip(counts) {
            total += count;
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("le", bound.as_str())])
                .collect();
            self.line("_bucket", &labels, total);
        }
        self.line("_sum", labels, sum).line("_count", labels, total)
    }

    /// A sample with labels.
    pub(super) fn sample(
        &mut self,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) -> &mut Self {
        self.line("", labels, value)
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) -> &mut Self {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut exposition = Exposition::default();
        exposition
            .histogram("h", "H.")
            .buckets(&[("a", "b")], &[0.5, 1.0], &[1, 2, 4], 9.5);
        assert_eq!(
            exposition.finish(),
            "# HELP h H.\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"1\"} 3\n\
             h_bucket{a=\"b\",le=\"+Inf\"} 7\nh_sum{a=\"b\"} 9.5\nh_count{a=\"b\"} 7\n"
        );
    }

    #[test]
    fn a_metric_has_help_type_and_one_line_a_sample() {
        let mut exposition = Exposition::default();
        exposition
            .metric("weir_rule_matched_total", Type::Counter, "Messages.")
            .sample(&[("rule", "a\"b"), ("x", "y")], 3)
            .value(4);
        assert_eq!(
            exposition.finish(),
            "# HELP weir_rule_matched_total Messages.\n# TYPE weir_rule_matched_total counter\n\
             weir_rule_matched_total{rule=\"a\\\"b\",x=\"y\"} 3\nweir_rule_matched_total 4\n"
        );
    }
}
