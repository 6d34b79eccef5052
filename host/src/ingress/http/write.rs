//! Requests that write: queued for the plugin's HTTP lane, and answered after the commit.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    outcome::{busy, failed, key_reused, not_now, stopping, unknown_outcome},
    prefer,
};
use crate::{
    model::{
        manifest::RouteName,
        queue::Queue,
        request::{Request, Response},
        trace::Trace,
    },
    problem::Problem,
    unit::pending::{Answer, Idempotency, Pending},
};

/// How long a request waits for the lane's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A request that writes, ready for the queue.
#[derive(Debug)]
pub(super) struct Write {
    /// The request as the plugin gets it.
    pub(super) request: Request,
    /// The route that was matched.
    pub(super) route: Arc<RouteName>,
    /// The trace that it continues.
    pub(super) trace: Trace,
    /// From its `Idempotency-Key` header.
    pub(super) idempotency: Option<Idempotency>,
    /// When the caller stops waiting for the end of the saga.
    pub(super) wait_until: Option<Instant>,
}

/// Queues a write and waits for the lane's answer.
///
/// # Cancellation
/// Does not withdraw the request: it may still be committed.
///
/// # Errors
/// The problem to answer with.
pub(super) async fn write(
    queue: &Queue<Pending>,
    stop: &CancellationToken,
    write: Write,
) -> Result<Response, Problem> {
    let Write { request, route, trace, idempotency, wait_until } = write;
    let id = request.id.clone();
    let (reply, answer) = oneshot::channel();
    let waits = wait_until.is_some();
    let pending = Pending { request, route, trace: trace.clone(), idempotency, waits, reply };
    let bytes = pending.size();
    queue.offer(pending, bytes).map_err(|_full| busy("writes"))?;
    let answer = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_dropped)) => return Err(stopping()),
        Err(_elapsed) => return Err(unknown_outcome()),
    };
    match answer {
        Answer::Response(response, None) => Ok(response),
        Answer::Response(response, Some(wait)) => {
            let until = wait_until.unwrap_or_else(Instant::now);
            let ended = tokio::select! {
                ended = wait.end(until) => ended,
                () = stop.cancelled() => None,
            };
            Ok(match ended {
                Some(answer) => with_end(response, answer.as_deref()),
                None => response,
            })
        }
        Answer::KeyReused => Err(key_reused()),
        Answer::NotNow(_logged) => Err(not_now()),
        Answer::Failed(_logged) => Err(failed(&id, &trace)),
        Answer::Unknown => Err(unknown_outcome()),
    }
}

fn with_end(mut response: Response, answer: Option<&str>) -> Response {
    if let Some(answer) = answer {
        response.body = prefer::merge(response.body, answer);
    }
    response.headers.push(("preference-applied".to_owned(), b"wait".to_vec()));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sqlx::postgres::PgPoolOptions;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::{Answer, Pending, Problem, Queue, Request, Response, RouteName, Trace, Write, write};
    use crate::{relay::notifier::Notifier, unit::waiters::Waiters};

    fn request(wait_until: Option<Instant>) -> Write {
        Write {
            request: Request { id: "r1".into(), ..Request::default() },
            route: Arc::new(RouteName { method: "POST".into(), path: "/orders".into() }),
            trace: Trace::start(),
            idempotency: None,
            wait_until,
        }
    }

    /// Queues a write for a test whose lane is `lane`.
    async fn written(
        wait_until: Option<Instant>,
        stop: &CancellationToken,
        lane: impl FnOnce(Pending),
    ) -> Result<Response, Problem> {
        let queue = Queue::new(10_000);
        let serve = async {
            queue.ready().await;
            queue.take_while(|_| true).into_iter().for_each(lane_once(lane));
        };
        tokio::join!(write(&queue, stop, request(wait_until)), serve).0
    }

    fn lane_once(lane: impl FnOnce(Pending)) -> impl FnMut(Pending) {
        let mut lane = Some(lane);
        move |pending| {
            if let Some(lane) = lane.take() {
                lane(pending);
            }
        }
    }

    fn created() -> Response {
        let saga = Some(("order".to_owned(), "a".to_owned()));
        Response { status: 201, body: br#"{"orderId":"a"}"#.to_vec(), saga, ..Response::default() }
    }

    #[tokio::test]
    async fn each_answer_has_its_status() {
        let lanes: [(u16, fn(Pending)); 5] = [
            (409, |pending| drop(pending.reply.send(Answer::KeyReused))),
            (500, |pending| {
                drop(pending.reply.send(Answer::Failed("relation secret does not exist".into())))
            }),
            (503, |pending| drop(pending.reply.send(Answer::NotNow("relation secret is locked".into())))),
            (503, |pending| drop(pending.reply.send(Answer::Unknown))),
            (503, drop),
        ];
        for (status, lane) in lanes {
            let problem = written(None, &CancellationToken::new(), lane).await.unwrap_err();
            assert_eq!(problem.status, status, "{}", problem.detail());
            assert!(!problem.detail().contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_answered_at_once() {
        let queue = Queue::new(1);
        let stop = CancellationToken::new();
        let first = write(&queue, &stop, request(None));
        tokio::select! {
            biased;
            _never = first => {}
            () = queue_full(&queue) => {}
        }
        let problem = write(&queue, &stop, request(None)).await.unwrap_err();
        assert_eq!(problem.status, 503);
        assert!(problem.detail().contains("writes"), "{}", problem.detail());
    }

    async fn queue_full(queue: &Queue<Pending>) {
        while !queue.is_full() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_waits_contains_the_end_of_its_saga() {
        let waiters = waiters();
        let until = Some(Instant::now() + Duration::from_secs(5));
        let response = written(until, &CancellationToken::new(), |pending| {
            assert!(pending.waits);
            let wait = waiters.wait(&created(), true);
            let _sent = pending.reply.send(Answer::Response(created(), wait));
            waiters.ended("order", "a", Some(r#"{"orderStatus":"CONFIRMED"}"#));
        })
        .await
        .unwrap();
        assert_eq!(response.body, br#"{"orderId":"a","orderStatus":"CONFIRMED"}"#);
        assert_eq!(response.headers, [("preference-applied".to_owned(), b"wait".to_vec())]);
    }

    #[tokio::test]
    async fn an_answer_whose_saga_does_not_end_in_time_has_no_status() {
        let waiters = waiters();
        let stop = CancellationToken::new();
        for (wait, stopped) in [(Duration::from_millis(20), false), (Duration::from_secs(60), true)] {
            let response = written(Some(Instant::now() + wait), &stop, |pending| {
                let wait = waiters.wait(&created(), true);
                let _sent = pending.reply.send(Answer::Response(created(), wait));
                if stopped {
                    stop.cancel();
                }
            })
            .await
            .unwrap();
            assert_eq!(response, created());
        }
    }

    fn waiters() -> Arc<Waiters> {
        let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        Waiters::new(pool.clone(), Notifier::new(pool, Arc::default()))
    }
}
