//! Which spans are recorded.

use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{Link, SpanKind, TraceContextExt, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// As the environment says; but where a parent would decide and there is none, links do: a
/// batch is recorded if one of its messages is.
#[derive(Clone, Debug)]
pub(super) struct WithLinks(pub(super) Sampler);

impl ShouldSample for WithLinks {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        let is_linked = links.iter().any(|link| link.span_context.is_sampled());
        if matches!(self.0, Sampler::ParentBased(_)) && !has_parent && is_linked {
            let (decision, trace_state) = (SamplingDecision::RecordAndSample, TraceState::default());
            return SamplingResult { decision, attributes: Vec::new(), trace_state };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{SpanId, TraceFlags, trace::SpanContext};

    use super::*;

    #[test]
    fn a_parent_decides_and_without_one_what_is_linked() {
        let never = || Box::new(Sampler::AlwaysOff);
        let context = |flags| {
            let (trace_id, span_id) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
            SpanContext::new(trace_id, span_id, TraceFlags::new(flags), true, TraceState::default())
        };
        let is_recorded = |sampler: Sampler, parent: Option<u8>, links: &[u8]| {
            let parent = parent
                .map_or_else(Context::new, |flags| Context::new().with_remote_span_context(context(flags)));
            let links: Vec<_> = links.iter().map(|flags| Link::with_context(context(*flags))).collect();
            let trace_id = TraceId::from_bytes([3; 16]);
            let kind = SpanKind::Internal;
            let result =
                WithLinks(sampler).should_sample(Some(&parent), trace_id, "fire", &kind, &[], &links);
            result.decision == SamplingDecision::RecordAndSample
        };
        let parent_based = || Sampler::ParentBased(never());
        assert!(!is_recorded(parent_based(), None, &[]));
        assert!(!is_recorded(parent_based(), None, &[0]));
        assert!(is_recorded(parent_based(), None, &[0, 1]));
        assert!(is_recorded(parent_based(), Some(1), &[]));
        assert!(!is_recorded(parent_based(), Some(0), &[1]));
        assert!(!is_recorded(Sampler::AlwaysOff, None, &[1]));
    }
}
