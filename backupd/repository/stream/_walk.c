/* The walk over small members, as walk.py has it in Python, at the speed of C and without the GIL.
 *
 * It takes only what it is sure of: members whose heads hold what tar writers write, in numbers that fit 64
 * bits. It stops before anything else, be it a large member, the trailer, bytes that have yet to come, a damaged
 * head or an odd one, and leaves that to Python, which alone refuses streams. What it takes it takes exactly
 * as Python does, byte for byte (tests/unit/test_walk.py).
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512
#define HEAD_LIMIT (4 * 1024 * 1024)
#define LARGE (256 * 1024)
#define GROUP_MIN (16 * 1024)
#define GROUP_MAX (256 * 1024)
#define GROUP_CLOSE (32 * 1024)

static const char *const TYPES[] = {"file",  "hardlink",  "symlink", "character",
                                    "block", "directory", "fifo",    "other"};
#define OTHER 7
#define TYPE_COUNT 8

typedef struct {
    const uint8_t *at; /* NULL: not there */
    size_t length;
} Bytes;

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

static size_t padded(size_t size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

/* ---- pax records ---- */

enum { PATH, LINKPATH, SIZE, UID, GID, MTIME, SPARSE_NAME, SPARSE_REALSIZE, SPARSE_SIZE, RECORD_COUNT };

static const char *const KEYS[RECORD_COUNT] = {
    "path", "linkpath", "size", "uid", "gid", "mtime", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.size",
};

typedef struct {
    Bytes of[RECORD_COUNT]; /* the last of a key counts */
} Records;

static void keep(Records *records, Bytes key, Bytes value)
{
    for (int i = 0; i < RECORD_COUNT; i++) {
        if (strlen(KEYS[i]) == key.length && !memcmp(KEYS[i], key.at, key.length)) {
            records->of[i] = value;
            return;
        }
    }
}

static bool read_pax(Bytes body, Records *records)
{
    size_t at = 0;
    while (at < body.length) {
        size_t space = at, count = 0;
        while (space < body.length && space - at < 8 && is_digit(body.at[space]))
            count = count * 10 + (body.at[space++] - '0');
        if (space == at || space == body.length || body.at[space] != ' ')
            return false;
        if (count > body.length - at || count < space - at + 2)
            return false;
        const uint8_t *key = body.at + space + 1, *end = body.at + at + count - 1;
        const uint8_t *equals = memchr(key, '=', (size_t)(end - key));
        if (*end != '\n' || !equals)
            return false;
        keep(records, (Bytes){key, (size_t)(equals - key)}, (Bytes){equals + 1, (size_t)(end - equals - 1)});
        at += count;
    }
    return true;
}

static Bytes without_nuls(Bytes text)
{
    while (text.length && !text.at[text.length - 1])
        text.length--;
    return text;
}

/* ---- numbers ---- */

static bool binary(const uint8_t *field, size_t length, int64_t *number)
{
    int64_t value = field[0] == 0xFF ? -1 : 0;
    for (size_t i = 1; i < length; i++) {
        if (value > INT64_MAX / 256 - 1 || value < INT64_MIN / 256 + 1)
            return false;
        value = value * 256 + field[i];
    }
    *number = value;
    return true;
}

static bool field_number(const uint8_t *field, size_t length, int64_t *number)
{
    if (field[0] == 0x80 || field[0] == 0xFF)
        return binary(field, length, number);
    size_t at = 0;
    int64_t value = 0;
    while (length && (field[length - 1] == ' ' || !field[length - 1]))
        length--;
    while (at < length && field[at] == ' ')
        at++;
    for (; at < length; at++) {
        if (field[at] < '0' || field[at] > '7')
            return false;
        value = value * 8 + (field[at] - '0');
    }
    *number = value;
    return true;
}

static bool decimal(Bytes text, int64_t *number)
{
    int64_t value = 0;
    if (!text.length || text.length > 18)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (!is_digit(text.at[i]))
            return false;
        value = value * 10 + (text.at[i] - '0');
    }
    *number = value;
    return true;
}

static bool nanoseconds(Bytes text, int64_t *number)
{
    bool negative = text.length && text.at[0] == '-';
    Bytes seconds = {text.at + negative, text.length - negative};
    const uint8_t *point = memchr(seconds.at, '.', seconds.length);
    int64_t whole, fraction = 0;
    size_t digits = 0;
    if (point) {
        const uint8_t *end = seconds.at + seconds.length;
        seconds.length = (size_t)(point - seconds.at);
        for (; digits < 9 && point + 1 + digits < end; digits++) {
            if (!is_digit(point[1 + digits]))
                return false;
            fraction = fraction * 10 + (point[1 + digits] - '0');
        }
        for (; digits < 9; digits++)
            fraction *= 10;
    }
    if (!decimal(seconds, &whole) || whole > 9000000000)
        return false;
    *number = (negative ? -1 : 1) * (whole * 1000000000 + fraction);
    return true;
}

/* ---- heads ---- */

typedef struct {
    Bytes path, target;
    int type;
    int64_t size, mode, uid, gid, mtime;
    size_t head_bytes, data_bytes;
    uint8_t joined[256]; /* prefix, slash, name */
} Member;

static bool checksum_holds(const uint8_t *header)
{
    int64_t stated;
    uint32_t sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++)
        sum += header[i];
    for (int i = 148; i < 156; i++)
        sum -= header[i];
    return field_number(header + 148, 8, &stated) && stated == (int64_t)sum;
}

static Bytes until_nul(const uint8_t *field, size_t length)
{
    const uint8_t *nul = memchr(field, 0, length);
    return (Bytes){field, nul ? (size_t)(nul - field) : length};
}

static void read_names(const uint8_t *header, Member *member)
{
    member->path = until_nul(header, 100);
    member->target = until_nul(header + 157, 100);
    if (!memcmp(header + 257, "ustar", 6) && header[345]) {
        Bytes prefix = until_nul(header + 345, 155), name = member->path;
        memcpy(member->joined, prefix.at, prefix.length);
        member->joined[prefix.length] = '/';
        memcpy(member->joined + prefix.length + 1, name.at, name.length);
        member->path = (Bytes){member->joined, prefix.length + 1 + name.length};
    }
}

static bool apply(const Records *records, Member *member)
{
    const Bytes *of = records->of;
    if (of[PATH].at)
        member->path = of[PATH];
    if (of[SPARSE_NAME].at)
        member->path = of[SPARSE_NAME];
    if (of[LINKPATH].at)
        member->target = of[LINKPATH];
    return (!of[SIZE].at || decimal(of[SIZE], &member->size)) && (!of[UID].at || decimal(of[UID], &member->uid)) &&
           (!of[GID].at || decimal(of[GID], &member->gid)) &&
           (!of[MTIME].at || nanoseconds(of[MTIME], &member->mtime));
}

static int type_of(uint8_t kind)
{
    if (kind == 0 || kind == '0' || kind == '7')
        return 0;
    return kind >= '1' && kind <= '6' ? kind - '0' : OTHER;
}

static bool read_member(const uint8_t *header, const Records *records, size_t head_bytes, Member *member)
{
    int64_t seconds;
    if (!field_number(header + 100, 8, &member->mode) || !field_number(header + 108, 8, &member->uid) ||
        !field_number(header + 116, 8, &member->gid) || !field_number(header + 124, 12, &member->size) ||
        !field_number(header + 136, 12, &seconds) || seconds > 9000000000 || seconds < -9000000000)
        return false;
    member->mode &= 07777;
    member->mtime = seconds * 1000000000;
    member->type = type_of(header[156]);
    member->head_bytes = head_bytes;
    read_names(header, member);
    if (member->size < 0 || !apply(records, member))
        return false;
    bool brings_data = member->type == 0 || member->type == OTHER;
    if (brings_data && member->size >= LARGE)
        return false;
    member->data_bytes = brings_data ? (size_t)member->size : 0;
    const Bytes *real = &records->of[records->of[SPARSE_REALSIZE].length ? SPARSE_REALSIZE : SPARSE_SIZE];
    return !real->length || decimal(*real, &member->size);
}

/* Whether a small member's head begins at `at`, all of it is there, and it is one to be sure of. */
static bool read_head(const uint8_t *window, size_t length, size_t at, Member *member)
{
    Records records = {0};
    size_t start = at;
    while (length - at >= BLOCK) {
        const uint8_t *header = window + at;
        uint8_t kind = header[156];
        int64_t size;
        if (!checksum_holds(header))
            return false;
        if (kind == 'g') /* rare, and it may change all that follows */
            return false;
        if (kind != 'x' && kind != 'L' && kind != 'K')
            return read_member(header, &records, at + BLOCK - start, member);
        if (!field_number(header + 124, 12, &size) || size < 0 || size > HEAD_LIMIT)
            return false;
        Bytes body = {header + BLOCK, (size_t)size};
        at += BLOCK + padded((size_t)size);
        if (at - start > HEAD_LIMIT || at > length)
            return false;
        if (kind == 'x' && !read_pax(body, &records))
            return false;
        if (kind == 'L')
            records.of[PATH] = without_nuls(body);
        if (kind == 'K')
            records.of[LINKPATH] = without_nuls(body);
    }
    return false;
}

/* ---- SHA-256 (FIPS 180-4), of paths ---- */

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha256_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                     s[7] + ROUND[i] + w[i];
        uint32_t b = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) +
                     ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += a;
        s[0] = a + b;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

/* The first four bytes of the SHA-256 of `text`, as a big-endian number. */
static uint32_t hash_of(Bytes text)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t tail[128] = {0};
    size_t whole = text.length / 64 * 64, rest = text.length - whole, end = rest < 56 ? 64 : 128;
    uint64_t bits = (uint64_t)text.length * 8;
    for (size_t at = 0; at < whole; at += 64)
        sha256_block(state, text.at + at);
    if (rest)
        memcpy(tail, text.at + whole, rest);
    tail[rest] = 0x80;
    for (unsigned i = 0; i < 8; i++)
        tail[end - 1 - i] = (uint8_t)(bits >> 8 * i);
    for (size_t at = 0; at < end; at += 64)
        sha256_block(state, tail + at);
    return state[0];
}

static bool closes_group(Bytes path, size_t member_bytes)
{
    return (uint64_t)hash_of(path) * GROUP_CLOSE < (uint64_t)member_bytes << 32;
}

/* ---- index lines ---- */

typedef struct {
    char *at;
    size_t length, room;
} Text;

static bool reserve(Text *text, size_t more)
{
    if (text->room - text->length >= more)
        return true;
    size_t room = text->room * 2 + more;
    char *grown = realloc(text->at, room);
    if (!grown)
        return false;
    text->at = grown;
    text->room = room;
    return true;
}

static void put(Text *text, const char *words)
{
    size_t length = strlen(words);
    memcpy(text->at + text->length, words, length);
    text->length += length;
}

static void put_number(Text *text, int64_t number)
{
    char digits[20];
    int count = 0;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    if (number < 0)
        text->at[text->length++] = '-';
    do
        digits[count++] = (char)('0' + left % 10);
    while (left /= 10);
    while (count)
        text->at[text->length++] = digits[--count];
}

static void put_named(Text *text, const char *name, int64_t number)
{
    put(text, name);
    put_number(text, number);
}

static void put_escape(Text *text, uint32_t unit)
{
    put(text, "\\u");
    for (int shift = 12; shift >= 0; shift -= 4)
        text->at[text->length++] = "0123456789abcdef"[unit >> shift & 15];
}

static void put_character(Text *text, uint32_t point)
{
    static const char SHORT[] = "\"\"\\\\\nn\rr\tt\ff\bb";
    for (const char *pair = SHORT; *pair; pair += 2) {
        if (point == (uint32_t)pair[0]) {
            text->at[text->length++] = '\\';
            text->at[text->length++] = pair[1];
            return;
        }
    }
    if (point >= ' ' && point <= '~') {
        text->at[text->length++] = (char)point;
    } else if (point < 0x10000) {
        put_escape(text, point);
    } else {
        put_escape(text, 0xD800 + ((point - 0x10000) >> 10));
        put_escape(text, 0xDC00 + ((point - 0x10000) & 0x3FF));
    }
}

/* The code point at the beginning of `text`, and how many bytes it takes: 0 if that is not UTF-8. */
static size_t code_point(Bytes text, uint32_t *point)
{
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = text.at[0];
    size_t count = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF8 ? 4 : 0;
    if (!count || count > text.length)
        return 0;
    *point = count == 1 ? first : first & (0x7Fu >> count);
    for (size_t i = 1; i < count; i++) {
        if ((text.at[i] & 0xC0) != 0x80)
            return 0;
        *point = *point << 6 | (text.at[i] & 0x3F);
    }
    bool surrogate = *point >= 0xD800 && *point <= 0xDFFF;
    return *point < LEAST[count] || *point > 0x10FFFF || surrogate ? 0 : count;
}

static bool put_utf8(Text *text, Bytes value)
{
    while (value.length) {
        uint32_t point;
        size_t count = code_point(value, &point);
        if (!count)
            return false;
        put_character(text, point);
        value.at += count;
        value.length -= count;
    }
    return true;
}

static void put_base64(Text *text, Bytes value)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < value.length; at += 3) {
        size_t left = value.length - at;
        uint32_t bits = (uint32_t)value.at[at] << 16;
        if (left > 1)
            bits |= (uint32_t)value.at[at + 1] << 8;
        if (left > 2)
            bits |= value.at[at + 2];
        text->at[text->length++] = DIGITS[bits >> 18];
        text->at[text->length++] = DIGITS[bits >> 12 & 63];
        text->at[text->length++] = left > 1 ? DIGITS[bits >> 6 & 63] : '=';
        text->at[text->length++] = left > 2 ? DIGITS[bits & 63] : '=';
    }
}

/* `"name":"value"`, or `"name_bytes":` and base64 of a value that is not UTF-8. */
static void put_text(Text *text, const char *name, Bytes value)
{
    size_t before = text->length;
    put(text, "\"");
    put(text, name);
    put(text, "\":\"");
    if (!put_utf8(text, value)) {
        text->length = before;
        put(text, "\"");
        put(text, name);
        put(text, "_bytes\":\"");
        put_base64(text, value);
    }
    put(text, "\"");
}

static bool put_line(Text *text, const Member *member, int64_t offset, int64_t chunk, int64_t skip)
{
    if (!reserve(text, 512 + 6 * (member->path.length + member->target.length)))
        return false;
    put(text, "{");
    put_text(text, "path", member->path);
    put(text, ",\"type\":\"");
    put(text, TYPES[member->type]);
    put_named(text, "\",\"size\":", member->size);
    put_named(text, ",\"mode\":", member->mode);
    put_named(text, ",\"uid\":", member->uid);
    put_named(text, ",\"gid\":", member->gid);
    put_named(text, ",\"mtime\":", member->mtime);
    put(text, ",");
    if (member->target.length) {
        put_text(text, "target", member->target);
        put(text, ",");
    }
    put_named(text, "\"offset\":", offset);
    put_named(text, ",\"chunk\":[", chunk);
    put_named(text, ",", chunk);
    put_named(text, "],\"skip\":", skip);
    put(text, "}\n");
    return true;
}

/* ---- the walk ---- */

typedef struct {
    const uint8_t *window;
    size_t length;
    size_t start, size; /* of the open group; it may reach beyond the window */
    bool closed;        /* nothing more belongs to it */
    int64_t offset;     /* of the window in the stream */
    int64_t chunk;      /* the open group's ordinal */
    Text lines;
    size_t *ends, end_count, end_room;
    int64_t counts[TYPE_COUNT], content_bytes;
} Walk;

static bool end_group(Walk *walk)
{
    if (walk->end_count == walk->end_room) {
        size_t room = walk->end_room * 2 + 64;
        size_t *grown = realloc(walk->ends, room * sizeof *grown);
        if (!grown)
            return false;
        walk->ends = grown;
        walk->end_room = room;
    }
    walk->start += walk->size;
    walk->ends[walk->end_count++] = walk->start;
    walk->size = 0;
    walk->closed = false;
    walk->chunk++;
    return true;
}

/* Whether there was memory for it. */
static bool walk_on(Walk *walk)
{
    Member member;
    for (;;) {
        size_t scan = walk->start + walk->size;
        if (walk->closed) {
            if (scan > walk->length)
                return true;
            if (!end_group(walk))
                return false;
        }
        if (scan > walk->length || !read_head(walk->window, walk->length, scan, &member))
            return true;
        size_t length = member.head_bytes + padded(member.data_bytes);
        if (walk->size >= GROUP_MIN && walk->size + length > GROUP_MAX) {
            walk->closed = true;
            continue;
        }
        if (member.size > INT64_MAX - walk->content_bytes)
            return true;
        if (!put_line(&walk->lines, &member, walk->offset + (int64_t)scan, walk->chunk, (int64_t)walk->size))
            return false;
        walk->counts[member.type]++;
        walk->content_bytes += member.size;
        walk->size += length;
        walk->closed = walk->size >= GROUP_MIN && closes_group(member.path, length);
    }
}

static PyObject *list_of(const size_t *ends, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *end = PyLong_FromSize_t(ends[i]);
        if (!end || PyList_SetItem(list, (Py_ssize_t)i, end) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *result_of(const Walk *walk)
{
    const int64_t *n = walk->counts;
    PyObject *ends = list_of(walk->ends, walk->end_count);
    if (!ends)
        return NULL;
    return Py_BuildValue("(NnNy#(LLLLLLLL)L)", ends, (Py_ssize_t)walk->size, PyBool_FromLong(walk->closed),
                         walk->lines.at ? walk->lines.at : "", (Py_ssize_t)walk->lines.length, n[0], n[1], n[2],
                         n[3], n[4], n[5], n[6], n[7], walk->content_bytes);
}

static PyObject *walk_window(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer window;
    Py_ssize_t start, size;
    long long offset, chunk;
    if (!PyArg_ParseTuple(arguments, "y*nnLL", &window, &start, &size, &offset, &chunk))
        return NULL;
    if (start < 0 || size < 0 || start > window.len || size > PY_SSIZE_T_MAX - window.len) {
        PyBuffer_Release(&window);
        PyErr_SetString(PyExc_ValueError, "a group that does not begin in the window");
        return NULL;
    }
    Walk walk = {.window = window.buf, .length = (size_t)window.len, .start = (size_t)start,
                 .size = (size_t)size, .offset = offset, .chunk = chunk};
    bool done;
    Py_BEGIN_ALLOW_THREADS
    done = walk_on(&walk);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&window);
    PyObject *result = done ? result_of(&walk) : PyErr_NoMemory();
    free(walk.lines.at);
    free(walk.ends);
    return result;
}

static PyMethodDef METHODS[] = {
    {"walk", walk_window, METH_VARARGS,
     "walk(window, start, size, offset, chunk) -> (ends, size, closed, lines, counts, content_bytes)"},
    {0},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_walk", .m_doc = "The walk over small members.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit__walk(void) { return PyModuleDef_Init(&MODULE); }
