/* softmax.h: written by loopgrad. Arrays are in C order; what is written overlaps nothing. */
#ifndef SOFTMAX_H
#define SOFTMAX_H

#include <stdint.h>

#ifndef LOOPGRAD_ERRORS
#define LOOPGRAD_ERRORS
/* What a function returns: several of these, added up, where several things are wrong. */
enum {
    LOOPGRAD_OK = 0,                 /* all results are written */
    LOOPGRAD_MEMORY = 1,             /* no memory for what is computed on the way */
    LOOPGRAD_EXTENT = 2,             /* extents are negative, or do not fit each other */
    LOOPGRAD_TOO_LARGE = 4,          /* an extent is 2^40 or more, or an integer constant 2^20 */
    LOOPGRAD_CONSTANT = 8,           /* a constant is less than 1, and must not be */
    LOOPGRAD_OUT_OF_RANGE = 16,      /* a subscript is out of range */
    LOOPGRAD_INCOMPLETE = 32,        /* an element is read before it is complete, or written twice */
    LOOPGRAD_NO_INTEGER = 64,        /* floor of NaN or of what does not fit int64, or a negative exponent */
    LOOPGRAD_DIVISION_BY_ZERO = 128, /* an integer is divided by zero */
    LOOPGRAD_OVERFLOW = 256,         /* an integer does not fit int64 */
};
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Softmax.
 *
 * softmax(s[B,J]) -> p[B,J]:
 *     for b, j:  Z[b]   += exp(s[b,j])
 *     for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
 *
 * B  an extent
 * J  an extent
 * s  s[B,J]
 * p  written: p[B,J]
 */
int softmax(int64_t B, int64_t J, const double *s, double *p);

#ifdef __cplusplus
}
#endif

#endif

/* softmax.c: written by loopgrad. C11; link with -lm. With OpenMP it may use several threads. */
#include "softmax.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* Loops whose iterations write elements of their own, shared by threads where that is worth it. */
#ifdef _OPENMP
#define PRAGMA(text) _Pragma(#text)
#define PARALLEL(work) PRAGMA(omp parallel for if ((work) > 30000))
#define PARALLEL_CHECKED(work) PRAGMA(omp parallel for reduction(| : error) if ((work) > 30000))
#else
#define PARALLEL(work)
#define PARALLEL_CHECKED(work)
#endif

static int64_t times(int64_t a, int64_t b) /* of what is not negative; what does not fit is large */
{
    return b != 0 && a > INT64_MAX / b ? INT64_MAX : a * b;
}

static void *allocate(int64_t elements, size_t size)
{
    if ((uint64_t)elements >= SIZE_MAX / 2 / size)
        return NULL;
    return malloc(((size_t)elements + 1) * size);
}

/*
 * Softmax.
 *
 * softmax(s[B,J]) -> p[B,J]:
 *     for b, j:  Z[b]   += exp(s[b,j])
 *     for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
 *
 * B  an extent
 * J  an extent
 * s  s[B,J]
 * p  written: p[B,J]
 */
int softmax(int64_t B, int64_t J, const double *restrict s, double *restrict p)
{
    int error = LOOPGRAD_OK;

    if (B < 0 || J < 0)
        return LOOPGRAD_EXTENT;
    if (B >> 40 || J >> 40)
        return LOOPGRAD_TOO_LARGE;
    double *Z = allocate(B, sizeof *Z);

    if (Z == NULL) {
        error = LOOPGRAD_MEMORY;
        goto end;
    }

    /* for b, j:  Z[b] += exp(s[b,j]) */
    for (int64_t i = 0; i < B; i++)
        Z[i] = 0;
    PARALLEL((double)B * J)
    for (int64_t b = 0; b < B; b++)
        for (int64_t j = 0; j < J; j++)
            Z[b] += exp(s[b * J + j]);

    /* for b, j:  p[b,j] += exp(s[b,j]) / Z[b] */
    const int64_t p_elements = times(B, J);
    for (int64_t i = 0; i < p_elements; i++)
        p[i] = 0;
    PARALLEL((double)B * J)
    for (int64_t b = 0; b < B; b++)
        for (int64_t j = 0; j < J; j++)
            p[b * J + j] += exp(s[b * J + j]) / Z[b];
end:
    free(Z);
    return error;
}
