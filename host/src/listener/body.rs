//! Reads a request's body, bounded in bytes and in time.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;

use crate::problem::Problem;

/// Bytes to read and drop from a caller that sends too much. A caller that writes before it reads would
/// otherwise lose the answer together with the connection.
const DISCARD_BYTES_MAX: usize = 1 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// Reads the whole body.
///
/// # Errors
/// 413 when more than `bytes_max` are announced or sent; 408 when the body does not arrive `within` this time;
/// 400 when the connection ends before the body does.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    within: Duration,
) -> Result<Vec<u8>, Problem> {
    if body.is_end_stream() {
        return Ok(Vec::new());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut stream = body.into_data_stream();
    if announced > bytes_max {
        // A caller that sends `Expect: 100-continue` has not sent the body yet.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut stream).await;
        }
        return Err(too_large(bytes_max));
    }
    match tokio::time::timeout(within, collect(&mut stream, bytes_max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            discard(&mut stream).await;
            Err(too_large(bytes_max))
        }
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "the connection ended before the body did; send the request again",
        )),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", within.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "Request timeout", detail))
        }
    }
}

/// Collects the body; none when it has more than `bytes_max`.
async fn collect(stream: &mut BodyDataStream, bytes_max: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if chunk.len() > bytes_max - bytes.len() {
            return Ok(None);
        }
        match bytes.is_empty() {
            true => bytes = Vec::from(chunk),
            false => bytes.extend_from_slice(&chunk),
        }
    }
    Ok(Some(bytes))
}

async fn discard(stream: &mut BodyDataStream) {
    let discarding = async {
        let mut discarded = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            discarded += chunk.len();
            if discarded > DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    let _gave_up = tokio::time::timeout(DISCARD_WITHIN, discarding).await;
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", detail).with("bytesMax", bytes_max)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use axum::{body::Body, http::HeaderMap};

    use super::read;

    async fn status(body: Body) -> Result<Vec<u8>, u16> {
        let headers = HeaderMap::new();
        let read = read(&headers, body, 4, Duration::from_millis(50));
        read.await.map_err(|problem| problem.status.as_u16())
    }

    fn chunks(chunks: &[&'static str]) -> Body {
        Body::from_stream(futures::stream::iter(
            chunks.iter().copied().map(Ok::<_, Infallible>).collect::<Vec<_>>(),
        ))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(status(Body::empty()).await, Ok(vec![]));
        assert_eq!(status(Body::from("abcd")).await, Ok(b"abcd".to_vec()));
        assert_eq!(status(chunks(&["ab", "", "cd"])).await, Ok(b"abcd".to_vec()));
        assert_eq!(status(Body::from("abcde")).await, Err(413));
        assert_eq!(status(chunks(&["abc", "de", "f"])).await, Err(413));
    }

    #[tokio::test]
    async fn a_body_that_ends_too_early_is_a_bad_request() {
        let broken = [Ok("ab"), Err("connection reset")];
        assert_eq!(status(Body::from_stream(futures::stream::iter(broken))).await, Err(400));
    }

    #[tokio::test]
    async fn a_body_that_takes_too_long_is_refused() {
        let never = futures::stream::pending::<Result<&str, Infallible>>();
        assert_eq!(status(Body::from_stream(never)).await, Err(408));
    }
}
