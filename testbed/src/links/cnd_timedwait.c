/*
 * libfaketime (0.9.10) sets timespec_get() but not C11's cnd_timedwait(), with which librdkafka waits: each wait would
 * be as wrong as the clock, an hour too long when it is an hour ahead. glibc's cnd_t and mtx_t are the POSIX types, and
 * what libfaketime does for pthread_cond_timedwait() is what is wanted here.
 */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    switch (pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
