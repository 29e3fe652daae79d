//! The older text format of Prometheus (version 0.0.4), for those who do not ask for
//! OpenMetrics: curl, promtool, and whatever else only knows the former.

/// How ours begin. In a label's value the quotation mark would be escaped.
const EXEMPLAR: &str = " # {trace_id=\"";

/// The same metrics. Samples are written alike; there, however, a family's name is that of its
/// samples, there is neither `info` nor `unknown`, and units, exemplars and the end are not told.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // A family's help comes first, its kind, and so its name here, in the next line.
    let mut help = "";
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), text) => help = text.unwrap_or_default(),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (ending, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                plain += &format!("# HELP {name}{ending} {help}\n# TYPE {name}{ending} {kind}\n");
            }
            (Some("#"), ..) => {}
            _ => {
                plain += line.split_once(EXEMPLAR).map_or(line, |(sample, _)| sample);
                plain.push('\n');
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_after_their_samples() {
        let open = "# HELP a Of a.\n# TYPE a counter\na_total 1\n# HELP b Of b.\n# TYPE b info\nb_info{c=\"# d\"} 1\n\
                    # HELP e_seconds Of e.\n# TYPE e_seconds histogram\n# UNIT e_seconds seconds\n\
                    e_seconds_bucket{le=\"1.0\"} 3 # {trace_id=\"0a\"} 0.5\ne_seconds_count 0\n# EOF\n";
        let plain = "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1\n# HELP b_info Of b.\n\
                     # TYPE b_info gauge\nb_info{c=\"# d\"} 1\n# HELP e_seconds Of e.\n\
                     # TYPE e_seconds histogram\n\
                     e_seconds_bucket{le=\"1.0\"} 3\ne_seconds_count 0\n";
        assert_eq!(from_open_metrics(open), plain);
    }
}
