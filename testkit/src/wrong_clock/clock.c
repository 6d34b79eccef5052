/* Loaded into a host by LD_PRELOAD: the wall clock is WRONG_BY_MS ahead, every other clock is as it is. The
 * kernel does not know of it, so waits until a time of the wall clock are corrected: they last as long as they
 * should. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static long long skew_ns;

__attribute__((constructor)) static void read_skew(void) {
    const char *ms = getenv("WRONG_BY_MS");
    skew_ns = ms ? atoll(ms) * 1000000LL : 0;
}

static struct timespec later(struct timespec time, long long ns) {
    ns += time.tv_sec * 1000000000LL + time.tv_nsec;
    time.tv_sec = ns / 1000000000LL;
    time.tv_nsec = ns % 1000000000LL;
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *now = later(*now, skew_ns);
    return (int)failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}

/* Times of a clock that starts with the machine are much lower. */
static struct timespec right(const struct timespec *until) {
    return until->tv_sec > 1000000000 ? later(*until, -skew_ns) : *until;
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
