//! What every process of ksched shows of itself, and how it is told what to do.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`logging`] | lines on stderr, as text or as JSON |
//! | [`metrics`] | every metric's name, unit and help text, and the counters behind them |
//! | [`readiness`] | whether this process can do its work now, and if not, why |
//! | [`http`] | `/metrics`, `/healthz`, `/readyz`, and the rule that nothing is bound in the open |
//! | [`traces`] | OpenTelemetry spans of scheduling, draining, firing; the only place that names it |
//! | [`settings`] | flags over environment over file over defaults, all mistakes told together |

pub mod http;
pub mod logging;
pub mod metrics;
pub mod readiness;
pub mod settings;
pub mod stop;
pub mod traces;
