/* What one core can do at most: the parts that a simulated step is made of, nothing around
 * them. Called from bound.py, which times; every function returns something that depends on
 * its work, so that none of it is left out. */
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

typedef int8_t v8 __attribute__((vector_size(32)));
typedef int16_t v16 __attribute__((vector_size(64)));
typedef int8_t v64 __attribute__((vector_size(64)));

static inline v16 wide(const int8_t *from)
{
#if defined(__AVX512BW__)
    /* gcc 12 makes four instructions of the conversion below. */
    return (v16)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)from));
#else
    v8 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, v16);
#endif
}

/* Sums of rows, 128 columns in registers at a time: as few other instructions as possible.
 * `order` names the rows to add (as spikes do), `width` is a multiple of 128. */
int64_t add_rows(const int8_t *weights, int64_t width, const int64_t *order, int64_t count,
                 int16_t *sums)
{
    for (int64_t column = 0; column < width; column += 128) {
        v16 a = {0}, b = {0}, c = {0}, d = {0};
        for (int64_t event = 0; event < count; event++) {
            const int8_t *row = weights + order[event] * width + column;
            a += wide(row);
            b += wide(row + 32);
            c += wide(row + 64);
            d += wide(row + 96);
        }
        memcpy(sums + column, &a, sizeof a);
        memcpy(sums + column + 32, &b, sizeof b);
        memcpy(sums + column + 64, &c, sizeof c);
        memcpy(sums + column + 96, &d, sizeof d);
    }
    return sums[0];
}

/* Adds 64 bytes to two vectors of 16 bits. */
static inline void add_wide(v16 *to, v64 bytes)
{
#if defined(__AVX512BW__)
    to[0] += (v16)_mm512_cvtepi8_epi16(_mm512_castsi512_si256((__m512i)bytes));
    to[1] += (v16)_mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64((__m512i)bytes, 1));
#else
    int8_t some[64];
    memcpy(some, &bytes, sizeof bytes);
    to[0] += wide(some);
    to[1] += wide(some + 32);
#endif
}

/* The same of weights so small that bytes hold the sums of `together` rows. */
int64_t add_small_rows(const int8_t *weights, int64_t width, const int64_t *order, int64_t count,
                       int64_t together, int16_t *sums)
{
    for (int64_t column = 0; column < width; column += 128) {
        v16 all[4] = {{0}};
        for (int64_t event = 0; event < count;) {
            const int64_t end = event + together < count ? event + together : count;
            v64 a = {0}, b = {0};
            for (; event < end; event++) {
                const int8_t *row = weights + order[event] * width + column;
                v64 left, right;
                memcpy(&left, row, sizeof left);
                memcpy(&right, row + 64, sizeof right);
                a += left;
                b += right;
            }
            add_wide(all, a);
            add_wide(all + 2, b);
        }
        memcpy(sums + column, all, sizeof all);
    }
    return sums[0];
}

#if defined(__AVX512BW__)
#define CUT (_MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)

/* A state of 24 bits is a float, exactly, and beside 2^23 a float has no fraction. */
static inline __m512 kept(__m512 state, __m512 factor)
{
    const __m512i whole = _mm512_castps_si512(_mm512_set1_ps(8388608.0f));
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    /* 0xEA: (first & second) | third. */
    const __m512i signed_whole =
        _mm512_ternarylogic_epi32(_mm512_castps_si512(state), sign, whole, 0xEA);
    const __m512 beside = _mm512_castsi512_ps(signed_whole);
    return _mm512_sub_ps(_mm512_fmadd_round_ps(state, factor, beside, CUT), beside);
}

/* One exact step of `count` neurons with one set of constants: decay, add, decay, clip, compare,
 * reset. Currents do not wrap. */
int64_t update(float *current, float *voltage, int16_t *sums, uint8_t *sent, int64_t count,
               int32_t keep_u, int32_t keep_v, int32_t threshold)
{
    const __m512 most = _mm512_set1_ps(8388607.0f), least = _mm512_set1_ps(-8388607.0f);
    const __m512 ku = _mm512_set1_ps(keep_u / 4096.0f), kv = _mm512_set1_ps(keep_v / 4096.0f);
    const __m512 above = _mm512_set1_ps((float)threshold), unit = _mm512_set1_ps(64.0f);
    for (int64_t j = 0; j < count; j += 64) {
        uint64_t fires = 0;
        for (int64_t k = 0; k < 64; k += 16) {
            const __m256i summed = _mm256_loadu_si256((const void *)(sums + j + k));
            const __m512 arrived = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(summed));
            const __m512 u = _mm512_fmadd_ps(arrived, unit, kept(_mm512_loadu_ps(current + j + k), ku));
            __m512 v = _mm512_add_ps(kept(_mm512_loadu_ps(voltage + j + k), kv), u);
            v = _mm512_max_ps(_mm512_min_ps(v, most), least);
            const __mmask16 over = _mm512_cmp_ps_mask(v, above, _CMP_GT_OQ);
            _mm512_storeu_ps(current + j + k, u);
            _mm512_storeu_ps(voltage + j + k, _mm512_mask_mov_ps(v, over, _mm512_setzero_ps()));
            fires |= (uint64_t)over << k;
        }
        _mm512_storeu_si512((void *)(sent + j), _mm512_maskz_set1_epi8(fires, 1));
        memset(sums + j, 0, 64 * sizeof *sums);
    }
    return (int64_t)voltage[0];
}
#else
static inline int32_t kept(int32_t state, int32_t factor)
{
    int32_t low = (state & 4095) * factor + ((state >> 31) & 4095);
    return (state >> 12) * factor + (low >> 12);
}

int64_t update(int32_t *restrict current, int32_t *restrict voltage, int16_t *restrict sums,
               uint8_t *restrict sent, int64_t count, int32_t keep_u, int32_t keep_v,
               int32_t threshold)
{
    const int32_t most = (1 << 23) - 1;
    for (int64_t j = 0; j < count; j++) {
        int32_t u = kept(current[j], keep_u) + (int32_t)((uint32_t)sums[j] << 6);
        u -= (int32_t)((uint32_t)((u > most + 1) - (u < -most)) << 24);
        int32_t v = kept(voltage[j], keep_v) + u;
        v = v > most ? most : v;
        v = v < -most ? -most : v;
        uint8_t fires = v > threshold;
        current[j] = u;
        voltage[j] = fires ? 0 : v;
        sent[j] = fires;
        sums[j] = 0;
    }
    return voltage[0];
}
#endif

/* The places of bytes that are 1, 64 bytes at a time. */
int64_t find(const uint8_t *sent, int64_t count, int64_t *index)
{
    int64_t found = 0;
    for (int64_t place = 0; place < count; place += 64) {
#if defined(__AVX512BW__)
        __m512i bytes = _mm512_loadu_si512(sent + place);
        uint64_t mask = _mm512_test_epi8_mask(bytes, bytes);
#else
        uint64_t mask = 0;
        for (int part = 0; part < 8; part++) {
            uint64_t word;
            memcpy(&word, sent + place + 8 * part, sizeof word);
            mask |= ((word * UINT64_C(0x0102040810204080)) >> 56) << (8 * part);
        }
#endif
        for (; mask; mask &= mask - 1)
            index[found++] = place + __builtin_ctzll(mask);
    }
    return found;
}

/* int8 products summed in 32 bits, operands in the first-level cache: what a matrix product
 * of dense int8 can reach at most. Returns the number of products, 0 where there is no VNNI. */
int64_t products(const int8_t *weights, int64_t bytes, int64_t times, int32_t *result)
{
#if defined(__AVX512VNNI__)
    __m512i sums[8];
    __m512i ones = _mm512_set1_epi8(1);
    for (int k = 0; k < 8; k++)
        sums[k] = _mm512_setzero_si512();
    for (int64_t time = 0; time < times; time++)
        for (int64_t place = 0; place < bytes; place += 512)
            for (int k = 0; k < 8; k++)
                sums[k] = _mm512_dpbusd_epi32(
                    sums[k], ones, _mm512_loadu_si512(weights + place + 64 * k));
    for (int k = 1; k < 8; k++)
        sums[0] = _mm512_add_epi32(sums[0], sums[k]);
    *result = _mm512_reduce_add_epi32(sums[0]);
    return bytes * times;
#else
    *result = weights[0] + (int32_t)(bytes + times);
    return 0;
#endif
}

/* The same many times, so that a call from Python costs nothing. */
#define AGAIN(call)                         \
    int64_t result = 0;                     \
    while (times-- > 0) {                   \
        result += call;                     \
        __asm__ volatile("" ::: "memory");  \
    }                                       \
    return result

int64_t add_rows_again(const int8_t *weights, int64_t width, const int64_t *order, int64_t count,
                       int16_t *sums, int64_t times)
{
    AGAIN(add_rows(weights, width, order, count, sums));
}

int64_t add_small_rows_again(const int8_t *weights, int64_t width, const int64_t *order,
                             int64_t count, int64_t together, int16_t *sums, int64_t times)
{
    AGAIN(add_small_rows(weights, width, order, count, together, sums));
}

int64_t update_again(void *current, void *voltage, int16_t *sums, uint8_t *sent, int64_t count,
                     int64_t times)
{
    AGAIN(update(current, voltage, sums, sent, count, 3686, 3891, 160000));
}

/* `rows` rows in turn: the branches of one would be learnt. */
int64_t find_again(const uint8_t *sent, int64_t rows, int64_t count, int64_t *index, int64_t times)
{
    AGAIN(find(sent + times % rows * count, count, index));
}
