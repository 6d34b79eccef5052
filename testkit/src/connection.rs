//! One HTTP/1.1 connection that stays open. It does as little work per exchange as possible, so that a load
//! generator takes little CPU from the system under test.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEADERS_MAX: usize = 64;
const READ_BYTES: usize = 4096;
/// The limit for one answer. No service gives a larger one.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An open connection, with bytes that were read ahead.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Length,
    head_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

/// One answer. Its head is not parsed.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers, with the empty line.
    pub head: Vec<u8>,
    /// The body, without transfer coding.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// As the system reports.
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends one whole request and reads its answer. `bodyless` is for HEAD.
    ///
    /// # Errors
    /// The connection ended, or the answer is not HTTP. Drop the connection then.
    ///
    /// # Cancellation
    /// Leaves the exchange half done: drop the connection.
    pub async fn exchange(&mut self, request: &[u8], bodyless: bool) -> io::Result<Answer> {
        // A server may refuse a request and close before it has read all of it (413). Then its answer counts.
        let sent = self.stream.write_all(request).await;
        let answer = self.read_answer(bodyless).await;
        match sent {
            Err(error) if answer.is_err() => Err(error),
            _ => answer,
        }
    }

    async fn read_answer(&mut self, bodyless: bool) -> io::Result<Answer> {
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                if head.status >= 200 {
                    break head;
                }
                self.buffer.drain(..head.head_bytes);
                continue;
            }
            self.fill().await?;
        };
        let head_text: Vec<u8> = self.buffer.drain(..head.head_bytes).collect();
        let body = if bodyless || head.status == 204 || head.status == 304 {
            Vec::new()
        } else {
            self.read_body(head.length).await?
        };
        Ok(Answer { status: head.status, head: head_text, body })
    }

    async fn read_body(&mut self, length: Length) -> io::Result<Vec<u8>> {
        match length {
            Length::Known(bytes) => {
                while self.buffer.len() < bytes {
                    self.fill().await?;
                }
                Ok(self.buffer.drain(..bytes).collect())
            }
            Length::Chunked => loop {
                if let Some((body, used)) = decode_chunks(&self.buffer)? {
                    self.buffer.drain(..used);
                    return Ok(body);
                }
                self.fill().await?;
            },
            Length::UntilClose => {
                while self.stream.read_buf(&mut self.buffer).await? > 0 {
                    within_limit(self.buffer.len())?;
                }
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        within_limit(self.buffer.len())?;
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn within_limit(bytes: usize) -> io::Result<()> {
    if bytes > ANSWER_BYTES_MAX { Err(invalid("an answer above 64 MiB")) } else { Ok(()) }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// The head; `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| invalid(&format!("not HTTP: {error}")))?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        return Ok(None);
    };
    let mut length = Length::UntilClose;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            length = Length::Known(
                text.trim().parse().map_err(|_| invalid("a Content-Length that is no number"))?,
            );
        } else if header.name.eq_ignore_ascii_case("transfer-encoding")
            && header.value.eq_ignore_ascii_case(b"chunked")
        {
            length = Length::Chunked;
            break;
        }
    }
    Ok(Some(Head { status: response.code.unwrap_or_default(), length, head_bytes }))
}

/// The body and the number of bytes that it took; `None` until the last chunk has arrived.
fn decode_chunks(bytes: &[u8]) -> io::Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((skip, size))) => {
                let size = usize::try_from(size).map_err(|_| invalid("a chunk too large"))?;
                let start = at + skip;
                let Some(rest) = bytes.get(start..).filter(|rest| rest.len() >= size.saturating_add(2))
                else {
                    return Ok(None);
                };
                body.extend_from_slice(&rest[..size]);
                at = start + size + 2;
                if size == 0 {
                    return Ok(Some((body, at)));
                }
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(invalid("a chunk that is none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, Length, decode_chunks, parse_head};

    #[test]
    fn a_head_is_known_once_it_is_whole() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Type: a\r\ncontent-length: 12\r\n\r\n{\"a\"";
        assert_eq!(parse_head(&text[..40]).unwrap(), None);
        let head_bytes = text.len() - 4;
        assert_eq!(
            parse_head(text).unwrap(),
            Some(Head { status: 201, length: Length::Known(12), head_bytes })
        );
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_are_joined() {
        let text = b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\nHTTP";
        assert_eq!(decode_chunks(text).unwrap(), Some((b"abcde".to_vec(), text.len() - 4)));
        for cut in 0..text.len() - 4 {
            assert_eq!(decode_chunks(&text[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert!(decode_chunks(b"zz\r\n").is_err());
    }
}
