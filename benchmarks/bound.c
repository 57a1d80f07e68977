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

#if defined(__AVX512BW__)
/* Products of 16 bits, two to a lane of which the upper is 0: cheaper than those of 32. */
static inline __m512i kept(__m512i state, __m512i factor)
{
    __m512i low = _mm512_and_si512(state, _mm512_set1_epi32(4095));
    __m512i rounding = _mm512_srli_epi32(_mm512_srai_epi32(state, 31), 20);
    __m512i part = _mm512_add_epi32(_mm512_madd_epi16(low, factor), rounding);
    __m512i high = _mm512_madd_epi16(_mm512_srai_epi32(state, 12), factor);
    return _mm512_add_epi32(high, _mm512_srai_epi32(part, 12));
}

/* One exact step of `count` neurons with one set of constants: decay, add, wrap, decay, clip,
 * compare, reset. */
int64_t update(int32_t *current, int32_t *voltage, int16_t *sums, uint8_t *sent, int64_t count,
               int32_t keep_u, int32_t keep_v, int32_t threshold)
{
    const __m512i most = _mm512_set1_epi32((1 << 23) - 1), least = _mm512_set1_epi32(1 - (1 << 23));
    const __m512i ku = _mm512_set1_epi32(keep_u), kv = _mm512_set1_epi32(keep_v);
    const __m512i over = _mm512_set1_epi32(1 << 23), whole = _mm512_set1_epi32(1 << 24);
    const __m512i above = _mm512_set1_epi32(threshold), one = _mm512_set1_epi32(1);
    for (int64_t j = 0; j < count; j += 16) {
        __m512i a = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)(sums + j)));
        __m512i u = kept(_mm512_loadu_si512(current + j), ku);
        u = _mm512_add_epi32(u, _mm512_slli_epi32(a, 6));
        u = _mm512_mask_sub_epi32(u, _mm512_cmpgt_epi32_mask(u, over), u, whole);
        u = _mm512_mask_add_epi32(u, _mm512_cmplt_epi32_mask(u, least), u, whole);
        __m512i v = _mm512_add_epi32(kept(_mm512_loadu_si512(voltage + j), kv), u);
        v = _mm512_max_epi32(_mm512_min_epi32(v, most), least);
        __mmask16 fires = _mm512_cmpgt_epi32_mask(v, above);
        _mm512_storeu_si512(current + j, u);
        _mm512_storeu_si512(voltage + j, _mm512_mask_mov_epi32(v, fires, _mm512_setzero_si512()));
        _mm_storeu_si128((void *)(sent + j), _mm512_cvtepi32_epi8(_mm512_maskz_mov_epi32(fires, one)));
        _mm256_storeu_si256((void *)(sums + j), _mm256_setzero_si256());
    }
    return voltage[0];
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

int64_t update_again(int32_t *current, int32_t *voltage, int16_t *sums, uint8_t *sent,
                     int64_t count, int64_t times)
{
    AGAIN(update(current, voltage, sums, sent, count, 3686, 3891, 160000));
}

/* `rows` rows in turn: the branches of one would be learnt. */
int64_t find_again(const uint8_t *sent, int64_t rows, int64_t count, int64_t *index, int64_t times)
{
    AGAIN(find(sent + times % rows * count, count, index));
}
