//! Bytes in the logs of topics, as the broker counts them: record batches with their headers on disk, without
//! indexes. librdkafka does not offer this request of the Kafka protocol (DescribeLogDirs, key 35, version
//! 1), so it is sent here, over plain TCP only.
//! <https://kafka.apache.org/protocol#The_Messages_DescribeLogDirs>

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use anyhow::{Context, Result, ensure};

use super::CALL_TIMEOUT;

const DESCRIBE_LOG_DIRS: i16 = 35;
const VERSION: i16 = 1;
const CORRELATION: i32 = 1;
const CLIENT: &str = "saga-testkit";
const ALL_TOPICS: i32 = -1;
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes by topic, summed over all partitions and replicas on these brokers. Blocks.
///
/// # Errors
/// A broker is unreachable, requires TLS, or does not answer this request.
pub fn by_topic(brokers: &str) -> Result<BTreeMap<String, i64>> {
    let mut sizes = BTreeMap::new();
    for broker in brokers.split(',').map(str::trim) {
        let answer = ask(broker).with_context(|| format!("log sizes of {broker}"))?;
        parse(&answer, &mut sizes).with_context(|| format!("log sizes of {broker}"))?;
    }
    Ok(sizes)
}

fn ask(broker: &str) -> Result<Vec<u8>> {
    let address = broker.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, CALL_TIMEOUT)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.write_all(&request())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size))?;
    ensure!(size <= ANSWER_BYTES_MAX, "an answer of {size} bytes");
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(DESCRIBE_LOG_DIRS.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend([0, CLIENT.len() as u8]);
    body.extend(CLIENT.as_bytes());
    body.extend(ALL_TOPICS.to_be_bytes());
    let mut request = (body.len() as u32).to_be_bytes().to_vec();
    request.extend(body);
    request
}

fn parse(answer: &[u8], sizes: &mut BTreeMap<String, i64>) -> Result<()> {
    let mut answer = Fields(answer);
    ensure!(answer.i32()? == CORRELATION, "an answer to another request");
    let _throttled_ms = answer.i32()?;
    for _ in 0..answer.i32()? {
        let error = answer.i16()?;
        ensure!(error == 0, "Kafka's error {error}");
        let _folder = answer.text()?;
        for _ in 0..answer.i32()? {
            let topic = answer.text()?;
            for _ in 0..answer.i32()? {
                let _partition = answer.i32()?;
                let bytes = answer.i64()?;
                let _lag = answer.i64()?;
                let moving = answer.take::<1>()? != [0];
                *sizes.entry(topic.clone()).or_default() += if moving { 0 } else { bytes };
            }
        }
    }
    Ok(())
}

/// The rest of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().context("an answer cut short")?;
        self.0 = rest;
        Ok(*head)
    }

    fn i16(&mut self) -> Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?)?;
        let (head, rest) = self.0.split_at_checked(length).context("an answer cut short")?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(head).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{parse, request};

    fn answer() -> Vec<u8> {
        let partition = |index: i32, bytes: i64, moving: u8| {
            [&index.to_be_bytes()[..], &bytes.to_be_bytes(), &0_i64.to_be_bytes(), &[moving]].concat()
        };
        [
            &[0, 0, 0, 1, 0, 0, 0, 0][..],
            &[0, 0, 0, 1, 0, 0, 0, 2, b'/', b'd'],
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 3],
            &partition(0, 100, 0),
            &partition(1, 23, 0),
            &partition(0, 77, 1),
        ]
        .concat()
    }

    #[test]
    fn partitions_are_added_up_without_copies_that_are_being_moved() {
        let mut sizes = BTreeMap::new();
        parse(&answer(), &mut sizes).unwrap();
        assert_eq!(sizes, [("t".to_owned(), 123)].into());
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        for length in 0..answer().len() {
            assert!(parse(&answer()[..length], &mut BTreeMap::new()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_request_begins_with_its_length() {
        let request = request();
        assert_eq!(&request[..8], [0, 0, 0, 26, 0, 35, 0, 1]);
        assert_eq!(request.len(), 30);
    }
}
