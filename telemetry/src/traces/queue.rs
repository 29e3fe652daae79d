//! A bounded queue of spans, and the task that sends them on in batches.
//!
//! In the place of the SDK's batch processor, which has a thread that blocks, and drops
//! what it has no room for without telling how much.

use std::{future::Future, sync::Arc, time::Duration};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::span::FORGOTTEN;
use crate::metrics::{Fate, count_spans};

/// How much waits, and when it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Spans that wait at most.
    pub(super) room: usize,
    /// Spans that are sent together at most.
    pub(super) batch: usize,
    /// From one look at what waits to the next, unless a batch is full before.
    pub(super) delay: Duration,
    /// How long one batch may take, with all tries.
    pub(super) limit: Duration,
}

/// The end at which spans come in.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: mpsc::Sender<SpanData>,
    batch: usize,
    full: Arc<Notify>,
}

/// A queue and what sends from it, until `stop`: then what waits is sent, and it ends.
pub(super) fn queue<E: SpanExporter + 'static>(
    exporter: E,
    settings: Settings,
    stop: CancellationToken,
) -> (Queue, impl Future<Output = ()> + Send + 'static) {
    let (waiting, spans) = mpsc::channel(settings.room);
    let full = Arc::new(Notify::new());
    let queue = Queue { waiting, batch: settings.batch, full: Arc::clone(&full) };
    let sender = Sender { exporter, limit: settings.limit, is_failing: false };
    (queue, send_all(sender, settings, spans, full, stop))
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.name == FORGOTTEN {
            return;
        }
        if self.waiting.try_send(span).is_err() {
            count_spans(Fate::Dropped, 1);
        } else if self.waiting.max_capacity() - self.waiting.capacity() >= self.batch {
            self.full.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.full.notify_one();
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

async fn send_all<E: SpanExporter>(
    mut sender: Sender<E>,
    settings: Settings,
    mut spans: mpsc::Receiver<SpanData>,
    full: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = sleep(settings.delay) => {}
            () = full.notified() => {}
            () = stop.cancelled() => spans.close(),
        }
        loop {
            let mut batch = Vec::new();
            while batch.len() < settings.batch
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                break;
            }
            sender.send(batch).await;
        }
        if spans.is_closed() {
            return;
        }
    }
}

struct Sender<E> {
    exporter: E,
    limit: Duration,
    /// Whether it has been said that nothing is taken.
    is_failing: bool,
}

impl<E: SpanExporter> Sender<E> {
    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let why = match timeout(self.limit, self.exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(_) => Some(format!("no answer within {:?}", self.limit)),
        };
        match why {
            None => {
                count_spans(Fate::Exported, count);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Some(why) => {
                count_spans(Fate::Failed, count);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(why, "the collector takes no spans: they are lost until it does");
                }
            }
        }
    }
}
