//! The limits of a plugin, and the range of each.

use serde::Deserialize;

/// The largest `memory_mib_max` of a policy. The instance pool reserves as much address space for each
/// instance.
pub(crate) const MEMORY_MIB_MAX: u32 = 1_024;

/// Limits of one plugin, each with its default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of one instance, in MiB.
    pub memory_mib_max: u32,
    /// Guest time of one call in milliseconds, without the time spent in the host.
    pub guest_ms_max: u32,
    /// Time of a unit in milliseconds, Postgres and the guest together.
    pub unit_ms_max: u32,
    /// Deliveries or requests in one unit.
    pub batch_deliveries_max: u32,
    /// SQL statements in one unit.
    pub statements_max: u32,
    /// Rows in one result.
    pub rows_max: u32,
    /// Bytes in one result.
    pub result_bytes_max: usize,
    /// Memory of one sort or hash of a statement, in MiB; what does not fit goes to temporary files.
    pub sort_memory_mib_max: u32,
    /// Temporary files of one session, in MiB.
    pub temp_files_mib_max: u32,
    /// Bytes that a guest passes to the host in one call.
    pub call_bytes_max: usize,
    /// Messages that one unit publishes.
    pub publish_messages_max: u32,
    /// Bytes that wait in the queue of a lane. When it is full, the consumer pauses and HTTP answers 503.
    pub queue_bytes_max: usize,
    /// Log lines that one unit writes.
    pub log_lines_max: u32,
    /// Attempts before a delivery is parked as a dead letter.
    pub attempts_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib_max: 64,
            guest_ms_max: 200,
            unit_ms_max: 2_000,
            batch_deliveries_max: 512,
            statements_max: 32,
            rows_max: 10_000,
            result_bytes_max: 8 << 20,
            sort_memory_mib_max: 16,
            temp_files_mib_max: 256,
            call_bytes_max: 16 << 20,
            publish_messages_max: 4_096,
            queue_bytes_max: 64 << 20,
            log_lines_max: 100,
            attempts_max: 8,
        }
    }
}

impl Limits {
    /// Names the first limit that is out of range.
    pub(super) fn check(&self) -> Result<(), String> {
        let ranges = [
            ("memory_mib_max", self.memory_mib_max as usize, 1, MEMORY_MIB_MAX as usize),
            ("guest_ms_max", self.guest_ms_max as usize, 10, 60_000),
            ("unit_ms_max", self.unit_ms_max as usize, 10, 60_000),
            ("batch_deliveries_max", self.batch_deliveries_max as usize, 1, 65_536),
            ("statements_max", self.statements_max as usize, 0, 100_000),
            ("rows_max", self.rows_max as usize, 1, 10_000_000),
            ("result_bytes_max", self.result_bytes_max, 1 << 10, 1 << 30),
            ("sort_memory_mib_max", self.sort_memory_mib_max as usize, 1, 1_024),
            ("temp_files_mib_max", self.temp_files_mib_max as usize, 1, 1 << 20),
            ("call_bytes_max", self.call_bytes_max, 1 << 10, 1 << 30),
            ("publish_messages_max", self.publish_messages_max as usize, 0, 65_535),
            ("queue_bytes_max", self.queue_bytes_max, 1 << 10, 16 << 30),
            ("log_lines_max", self.log_lines_max as usize, 0, 1_000_000),
            ("attempts_max", self.attempts_max as usize, 1, 1_000),
        ];
        match ranges.iter().find(|(_, value, min, max)| value < min || value > max) {
            None => Ok(()),
            Some((name, value, min, max)) => {
                Err(format!("[limits] {name} = {value}: must be between {min} and {max}"))
            }
        }
    }
}
