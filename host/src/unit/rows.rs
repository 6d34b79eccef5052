//! The rows that a unit hands to `saga.flush`: one type for each kind of write, each the composite type of
//! its name in `migrations/host/0001_base.sql`.

use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::PgRecordEncoder},
};

/// A struct that is encoded as a composite type of Postgres, and in arrays of it. Postgres knows the fields
/// by their position, so they are declared once, in the order of the SQL type. As `#[derive(sqlx::Type)]`
/// does, for which sqlx would be compiled a second time.
macro_rules! row {
    ($sql_type:literal, $(#[$meta:meta])* struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Type<Postgres> for $name {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($sql_type)
            }
        }

        impl PgHasArrayType for $name {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::array_of($sql_type)
            }
        }

        impl Encode<'_, Postgres> for $name {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let mut row = PgRecordEncoder::new(buffer);
                $(row.encode(&self.$field)?;)*
                row.finish();
                Ok(IsNull::No)
            }
        }
    };
}

row! {
    "saga.saga_start_row",
    /// A saga that starts.
    struct SagaStartRow {
        /// Type.
        saga_type: String,
        /// Key.
        key: String,
        /// Digest of the version that handles it.
        digest: String,
        /// State.
        state: String,
        /// JSON.
        data: String,
        /// Deadline, microseconds since 1970.
        next_at_us: i64,
        /// The first lines of its log.
        log: String,
    }
}

row! {
    "saga.saga_step_row",
    /// A step of a saga that continues.
    struct SagaStepRow {
        /// Type.
        saga_type: String,
        /// Key.
        key: String,
        /// Revision before the unit.
        expected_revision: i64,
        /// Revision after it.
        new_revision: i64,
        /// State after it.
        state: String,
        /// JSON after it; none leaves it as it is.
        data: Option<String>,
        /// Deadline, microseconds since 1970.
        next_at_us: i64,
        /// Whether an earlier deadline has passed unanswered.
        overdue: bool,
        /// Lines to append to its log.
        log: String,
        /// Digest of the version that handles it from now on; none leaves it as it is.
        digest: Option<String>,
    }
}

row! {
    "saga.saga_end_row",
    /// A saga that ends.
    struct SagaEndRow {
        /// Type.
        saga_type: String,
        /// Key.
        key: String,
        /// Revision before the unit.
        expected_revision: i64,
        /// Revision after it.
        new_revision: i64,
        /// State after it.
        state: String,
        /// JSON after it; none leaves it as it is.
        data: Option<String>,
        /// `completed`, `compensated` or `failed`.
        ending: &'static str,
        /// JSON object for a caller that waits.
        answer: Option<String>,
        /// Lines to append to its log.
        log: String,
    }
}

row! {
    "saga.timer_row",
    /// A timer to set, or to set again.
    struct TimerRow {
        /// Unique in the plugin.
        name: String,
        /// Microseconds since 1970.
        due_at_us: i64,
        /// Ordering key of the delivery that it becomes.
        correlation: Option<String>,
        /// What that delivery carries.
        payload: Vec<u8>,
    }
}

row! {
    "saga.parked_row",
    /// A delivery to park.
    struct ParkedRow {
        /// Topic, or `timer/NAME`.
        topic: String,
        /// Partition; negative for a timer.
        partition: i32,
        /// Offset.
        position: i64,
        /// Later deliveries of this key queue behind it.
        key: Option<String>,
        /// The encoded delivery.
        body: Vec<u8>,
        /// For a person to read.
        reason: String,
        /// How often it was tried.
        attempts: i32,
        /// None: until a person redrives it, or until its turn in its key's queue.
        retry_after_ms: Option<i64>,
    }
}

row! {
    "saga.parked_retry_row",
    /// A parked delivery that was tried again and stays parked.
    struct ParkedRetryRow {
        /// Row of `saga.parked`.
        id: i64,
        /// For a person to read.
        reason: String,
        /// How often it was tried.
        attempts: i32,
        /// None: until a person redrives it.
        retry_after_ms: Option<i64>,
    }
}

row! {
    "saga.ignored_row",
    /// A delivery that changed nothing.
    struct IgnoredRow {
        /// The origin as a person sees it, see [`crate::model::delivery::Origin`].
        source: String,
        /// Its correlation.
        key: Option<String>,
        /// For a person to read.
        reason: String,
    }
}

row! {
    "saga.stored_answer_row",
    /// An answer to store for its idempotency key.
    struct StoredAnswerRow {
        /// As the caller sent it.
        idempotency_key: String,
        /// SHA-256 of the request that it answers.
        request_hash: Vec<u8>,
        /// The encoded response.
        response: Vec<u8>,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    /// Postgres knows the fields by their position.
    #[test]
    fn fields_are_in_the_order_of_their_sql_types() {
        let (rust, sql) = (include_str!("rows.rs"), include_str!("../../../migrations/host/0001_base.sql"));
        let mut rows = 0;
        for row in rust.split("row! {\n").skip(1) {
            let (name, row) = row.trim_start().trim_start_matches('"').split_once("\",").unwrap();
            let (row, _) = row.split_once("\n}").unwrap();
            let fields = row.lines().filter_map(|line| line.trim().split_once(": ")).map(|(field, _)| field);
            let fields: Vec<&str> = fields.filter(|field| !field.starts_with("///")).collect();
            let (_, sql_type) = sql.split_once(&format!("CREATE TYPE {name} AS (\n")).unwrap();
            let (sql_type, _) = sql_type.split_once("\n);").unwrap();
            let columns: Vec<&str> =
                sql_type.lines().filter_map(|line| line.split_whitespace().next()).collect();
            let saga_type = |column| if column == "type" { "saga_type" } else { column };
            assert_eq!(fields, columns.into_iter().map(saga_type).collect::<Vec<_>>(), "{name}");
            rows += 1;
        }
        assert_eq!(rows, 8);
    }
}
