//! Makes the clock of one process wrong: a library whose functions come before those of the C library. The
//! Kafka client waits until a time of that clock, which the kernel does not know to be wrong.

use std::{path::PathBuf, process::Command, sync::LazyLock};

use super::folder;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

static long wrong_by(void) {
    const char *seconds = getenv("WRONG_BY_S");
    return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (!result && clock == CLOCK_REALTIME) time->tv_sec += wrong_by();
    return result;
}

int gettimeofday(struct timeval *time, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(time, zone);
    if (!result) time->tv_sec += wrong_by();
    return result;
}

/* Times of a clock that starts with the machine are much lower. */
static struct timespec right(const struct timespec *time) {
    struct timespec right = *time;
    if (right.tv_sec > 1000000000) right.tv_sec -= wrong_by();
    return right;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec time = right(until);
    return real(cond, mutex, &time);
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec time = right(until);
    return real(cond, mutex, &time);
}
"#;

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = folder::new("wrong-clock");
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success(), "cc cannot compile {}", source.display());
    library
});

/// The environment of such a process.
pub(super) fn environment(wrong_by_s: i64) -> [(String, String); 2] {
    [
        ("LD_PRELOAD".to_owned(), LIBRARY.display().to_string()),
        ("WRONG_BY_S".to_owned(), wrong_by_s.to_string()),
    ]
}
