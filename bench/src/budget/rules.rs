//! To which stop a sample belongs. Pure: a table of names, read from the innermost function outwards.

/// Parts of functions' names; where more than one fits a name, the first counts.
const FUNCTIONS: [(&str, &str); 15] = [
    ("rd_kafka", LIBRDKAFKA),
    ("rdkafka", LIBRDKAFKA),
    ("sqlx", "sqlx"),
    ("saga_host::capability", "capability calls"),
    ("wasmtime", WASM),
    ("saga_host::plugin", WASM),
    ("saga_host::relay", "relay"),
    ("saga_host::ingress::http", HTTP),
    ("axum", HTTP),
    ("hyper", HTTP),
    ("saga_host::ingress", "reading records"),
    ("saga_host::unit", UNIT),
    ("saga_host::lane", UNIT),
    ("saga_host::saga", UNIT),
    ("saga_host::rollout::service", UNIT),
];
const LIBRDKAFKA: &str = "librdkafka";
const WASM: &str = "wasm";
const HTTP: &str = "HTTP";
const UNIT: &str = "lanes and units";
/// What has no name in the host is code that wasmtime compiled, and what the kernel does for it.
const NAMELESS: &str = "[unknown]";

/// Threads of the broker, by the beginning of their names.
const BROKER_THREADS: [(&str, &str); 8] = [
    ("data-plane-kafk", "network and request threads"),
    ("C1 Compiler", JIT),
    ("C2 Compiler", JIT),
    ("GC Thread", GC),
    ("G1 ", GC),
    ("VM Thread", GC),
    ("VM Periodic", GC),
    ("", "other threads"),
];
const JIT: &str = "JIT compiler";
const GC: &str = "garbage collector";

/// Of a thread of the host. `frames` are the functions, the innermost first.
pub(super) fn of_host(thread: &str, frames: &[String]) -> &'static str {
    if thread.starts_with("rdk:") {
        return LIBRDKAFKA;
    }
    let rule =
        |frame: &String| FUNCTIONS.iter().find(|(part, _)| frame.contains(part)).map(|(_, stop)| *stop);
    let any = |part: &str| frames.iter().any(|frame| frame.contains(part));
    match frames.iter().find_map(rule) {
        Some(stop) => stop,
        // The runtime is under everything: where nothing else is, it is at work itself.
        None if any("tokio") => "scheduling (tokio)",
        None if any(NAMELESS) => WASM,
        None => "other",
    }
}

/// Of a thread of the broker.
pub(super) fn of_broker(thread: &str) -> &'static str {
    BROKER_THREADS.iter().find(|(name, _)| thread.starts_with(name)).map_or("other threads", |(_, stop)| stop)
}

/// Of a process of Postgres, by its title.
pub(super) fn of_postgres(title: &str) -> &'static str {
    match title.strip_prefix("postgres: ") {
        Some(title) if title.starts_with("plugin_") => "backends of plugins: lanes and reads",
        Some(title) if title.contains(" [local] ") || title.contains('(') => {
            "backends of the host: relays, due, claims"
        }
        Some(title) if title.starts_with("walwriter") => "WAL writer",
        _ => "background",
    }
}

#[cfg(test)]
mod tests {
    use super::{of_broker, of_host, of_postgres};

    fn stop(thread: &str, frames: &[&str]) -> &'static str {
        of_host(thread, &frames.iter().map(|frame| (*frame).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_innermost_function_with_a_rule_decides() {
        for (frames, wanted) in [
            (&["mi_malloc", "sqlx_core::x", "saga_host::capability::y", "[unknown]"][..], "sqlx"),
            (&["mi_malloc", "saga_host::capability::y", "wasmtime::z"][..], "capability calls"),
            (&["memmove", "<alloc::string::String as wasmtime::Lift>::lift"][..], "wasm"),
            (&["[unknown]"][..], "wasm"),
            (&["clear_page_erms", "exc_page_fault", "[unknown]"][..], "wasm"),
            (
                &["epoll_wait", "tokio::runtime::io::driver::Driver::turn", "[unknown]"][..],
                "scheduling (tokio)",
            ),
            (&["tokio::net::x", "hyper::y", "tokio::runtime::z"][..], "HTTP"),
            (&["saga_host::ingress::kafka::record::x"][..], "reading records"),
            (&["saga_host::ingress::http::x"][..], "HTTP"),
            (&["rd_kafka_poll", "saga_host::ingress::kafka::consumer::x"][..], "librdkafka"),
            (&["main"][..], "other"),
        ] {
            assert_eq!(stop("saga-host", frames), wanted, "{frames:?}");
        }
        assert_eq!(stop("rdk:broker1", &["write"]), "librdkafka");
    }

    #[test]
    fn threads_and_titles_tell_the_rest() {
        assert_eq!(of_broker("C2 CompilerThre"), "JIT compiler");
        assert_eq!(of_broker("group-coordinat"), "other threads");
        assert_eq!(
            of_postgres("postgres: plugin_order_query query-order [local] idle"),
            "backends of plugins: lanes and reads"
        );
        assert_eq!(
            of_postgres("postgres: postgres cmd-order [local] idle"),
            "backends of the host: relays, due, claims"
        );
        assert_eq!(of_postgres("postgres: walwriter "), "WAL writer");
        assert_eq!(of_postgres("postgres: checkpointer "), "background");
    }
}
