/* The scan of personal data behind Hyperscan's matches: windows, exact expressions, checks, words nearby, levels, and the
 * choice among what overlaps. It does what domain/pii/scan.py does with `re`, which is the reference for all of it; the
 * expressions themselves are made from the recognisers by generate.py.
 *
 * Nothing here is kept between two calls but what the recognisers are. Texts are looked through without the interpreter's
 * lock; only a check that has no form in C takes it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#include "matching.h"

#include "rules.h"

#include "checks.h"

enum { FOLDED = 1, VEILED = 2 };  /* signs of disguise; the last expression behind the anchors' tells of the second */
enum { AGAINST, ALONE, NEAR };
enum { MOST_RECOGNISERS = 64 };
enum { SIGHT = 64 };  /* characters beyond a window that words nearby may reach */
enum { HIT_FIELDS = 12 };

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* A check or a lookalike: one of CHECKS, or a Python callable, or neither. */
struct question {
    check_function asked;
    PyObject *callable;
};

struct recogniser {
    int expression, near, against;  /* numbers of expressions; below zero without one */
    int before, after;              /* characters in which words nearby are sought */
    int back, ahead;                /* characters that a match takes at most around an anchor's end */
    struct question check, lookalike;
    int levels[2][3];  /* unverified, verified; against, alone, near; zero drops the candidate */
    int whole;
    bool secret, watchable;
    PyObject *kind, *rule_id, *version, *mask, *national, *personal;
};

struct users {
    int count;
    uint8_t *numbers;
};

/* An anchor's or a sign's match: characters of all texts before its end. */
struct place {
    int end, expression;
};

struct places {
    struct place *all;
    size_t count, room;
};

typedef struct {
    PyObject_HEAD struct recogniser recognisers[MOST_RECOGNISERS];
    int recogniser_count;
    int link;
    struct users *anchors;  /* the recognisers of each */
    int anchor_count;
    PyObject *alphabet, *marks;  /* bytes: the byte of each code point; which bytes may have to be folded */
    PyObject *scan, *fold, *collector, *hit_type, *levels[3], *checks[3], *nothing;
    struct places places;
    bool busy;
} Core;

static PyObject *handler_names, *origin_name, *text_name;

/* --- one text ----------------------------------------------------------------------------------------------------- */

struct window {
    int low, high, next;  /* next: of the same recogniser; below zero for the last */
};

struct candidate {
    int start, end, recogniser, level, check, turn;
};

struct list {
    void *all;
    size_t count, room, size;
};

static void *added(struct list *list) {
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        void *all = realloc(list->all, room * list->size);
        if (!all) return NULL;
        list->all = all;
        list->room = room;
    }
    return (char *)list->all + list->size * list->count++;
}

/* A text of the batch in which something was seen. */
struct seen {
    int number, length, signs;
    bool is_marked;        /* it holds a character that folding would change, and has not been folded */
    size_t first, places;  /* its places among those of the pass */
    size_t text;           /* where its characters begin */
    size_t first_hit, hits;
};

struct batch {
    Core *core;
    uint32_t *text;   /* code points of the texts that are judged */
    uint16_t *kinds;
    struct list windows, candidates, hits;
    int first[MOST_RECOGNISERS], last[MOST_RECOGNISERS];
    PyThreadState *without_lock;
    bool failed;  /* a Python error is set, or memory was short */
};

static int code_point_kind(uint32_t point) { return KINDS[PAGE_OF[point >> 8]][point & 255]; }

/* Whether a match is found at or after `low`; it ends at `high` at most. */
static bool found(struct match *m, int expression, int low, int high) {
    memset(m->marks, 0xff, sizeof m->marks);
    m->end = high;
    return EXPRESSIONS[expression].search(m, low);
}

/* Where the last match between `low` and `high` ends; below zero without one. */
static int last_end(struct match *m, int expression, int low, int high) {
    int end = -1;
    while (low < high && found(m, expression, low, high)) end = low = m->stop;
    return end;
}

/* Numbers inside a link are identifiers of pages, orders, articles. */
static bool in_link(const Core *core, struct match *m, int start) {
    int low = start > core->link ? start - core->link : 0, word = start;
    while (word > low && !is_space(m->kinds[word - 1])) word--;
    return word < start && found(m, LINK_EXPRESSION, word, start);
}

/* What the words around [start, end) say: the nearest label before it, else what follows. */
static int nearby(const Core *core, const struct recogniser *of, const struct match *text, int length, int start, int end) {
    struct match m;
    m.kinds = text->kinds;
    m.text = text->text;
    if (of->against >= 0 && in_link(core, &m, start)) return AGAINST;
    int low = start > of->before ? start - of->before : 0;
    int near = of->near < 0 ? -1 : last_end(&m, of->near, low, start);
    int against = of->against < 0 ? -1 : last_end(&m, of->against, low, start);
    if (near >= 0 || against >= 0) return near >= against ? NEAR : AGAINST;
    int high = length - end > of->after ? end + of->after : length;
    return of->near >= 0 && found(&m, of->near, end, high) ? NEAR : ALONE;
}

static bool is_whole(const uint16_t *kinds, int length, int start, int end) {
    for (int at = 0; at < start; at++)
        if (!is_space(kinds[at])) return false;
    for (int at = end; at < length; at++)
        if (!is_space(kinds[at])) return false;
    return true;
}

static int asked_in_python(struct batch *batch, PyObject *callable, const uint32_t *value, int length) {
    PyEval_RestoreThread(batch->without_lock);
    int answer = CHECK_NO;
    PyObject *text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, value, length);
    PyObject *said = text ? PyObject_CallOneArg(callable, text) : NULL;
    if (!said)
        batch->failed = true;
    else
        answer = said == Py_None ? CHECK_UNKNOWN : said == Py_True ? CHECK_YES : CHECK_NO;
    Py_XDECREF(text);
    Py_XDECREF(said);
    batch->without_lock = PyEval_SaveThread();
    return answer;
}

static int asked(struct batch *batch, const struct question *question, const uint32_t *value, int length, int unasked) {
    if (question->asked) return question->asked(value, length);
    return question->callable ? asked_in_python(batch, question->callable, value, length) : unasked;
}

/* How sure the rule is of [start, end); zero where it is no candidate. */
static int judged(struct batch *batch, const struct recogniser *of, const struct match *m, int length, int start, int end,
                  int *check) {
    const uint32_t *value = m->text + start;
    *check = asked(batch, &of->check, value, end - start, CHECK_UNKNOWN);
    if (*check == CHECK_NO) return 0;
    const int *levels = of->levels[*check == CHECK_YES];
    bool may_be_other = of->lookalike.asked || of->lookalike.callable;
    if (!may_be_other && levels[ALONE] && levels[AGAINST] == levels[ALONE] && levels[NEAR] == levels[ALONE])
        return levels[ALONE];
    int say = nearby(batch->core, of, m, length, start, end), level = levels[say];
    if (say == ALONE && (!level || asked(batch, &of->lookalike, value, end - start, CHECK_NO) == CHECK_YES))
        level = of->whole && is_whole(m->kinds, length, start, end) ? of->whole : 0;
    return level;
}

/* A password must never come out as an e-mail address; then the surer, checked, longer, earlier rule. */
static int by_precedence(const Core *core, const struct candidate *one, const struct candidate *other) {
    bool secret = core->recognisers[one->recogniser].secret, other_secret = core->recognisers[other->recogniser].secret;
    if (secret != other_secret) return secret ? -1 : 1;
    if (one->level != other->level) return other->level - one->level;
    if (one->check != other->check) return other->check - one->check;
    int longer = (other->end - other->start) - (one->end - one->start);
    if (longer) return longer;
    return one->recogniser != other->recogniser ? one->recogniser - other->recogniser : one->turn - other->turn;
}

static void sifted(const Core *core, struct candidate *heap, size_t at, size_t count) {
    struct candidate moved = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && by_precedence(core, &heap[child], &heap[child + 1]) < 0) child++;
        if (by_precedence(core, &moved, &heap[child]) >= 0) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Sorts without recursion and without a place that is quadratic: few candidates by insertion, many as a heap. */
static void sorted(const Core *core, struct candidate *all, size_t count) {
    if (count <= 32) {
        for (size_t at = 1; at < count; at++) {
            struct candidate moved = all[at];
            size_t to = at;
            for (; to && by_precedence(core, &moved, &all[to - 1]) < 0; to--) all[to] = all[to - 1];
            all[to] = moved;
        }
        return;
    }
    for (size_t at = count / 2; at--;) sifted(core, all, at, count);
    for (size_t last = count - 1; last; last--) {
        struct candidate top = all[0];
        all[0] = all[last];
        all[last] = top;
        sifted(core, all, 0, last);
    }
}

/* Adds the strongest candidates that do not overlap to the hits, by position. */
static bool chosen(struct batch *batch, struct seen *seen) {
    struct candidate *candidates = batch->candidates.all;
    sorted(batch->core, candidates, batch->candidates.count);
    seen->first_hit = batch->hits.count;
    for (size_t each = 0; each < batch->candidates.count; each++) {
        struct candidate *hits = (struct candidate *)batch->hits.all + seen->first_hit;
        size_t low = 0, high = batch->hits.count - seen->first_hit;
        while (low < high) {  /* the first that begins at or after the candidate's end */
            size_t middle = (low + high) / 2;
            if (hits[middle].start < candidates[each].end)
                low = middle + 1;
            else
                high = middle;
        }
        if (low && hits[low - 1].end > candidates[each].start) continue;
        if (!added(&batch->hits)) return false;
        hits = (struct candidate *)batch->hits.all + seen->first_hit;
        memmove(hits + low + 1, hits + low, (batch->hits.count - seen->first_hit - 1 - low) * sizeof *hits);
        hits[low] = candidates[each];
    }
    seen->hits = batch->hits.count - seen->first_hit;
    return true;
}

/* Every match of one recogniser in one window, judged. */
static bool looked(struct batch *batch, int number, struct match *m, int length, int low, int high) {
    const struct recogniser *of = &batch->core->recognisers[number];
    const int *values = EXPRESSIONS[of->expression].values;
    while (found(m, of->expression, low, high)) {
        int start = m->start, end = m->stop, check;
        low = end;
        for (int at = 0; at < 3 && values[at]; at++)
            if (m->marks[2 * values[at]] >= 0) {
                start = m->marks[2 * values[at]];
                end = m->marks[2 * values[at] + 1];
                break;
            }
        int level = judged(batch, of, m, length, start, end, &check);
        if (batch->failed) return false;
        if (!level) continue;
        struct candidate *candidate = added(&batch->candidates);
        if (!candidate) return false;
        *candidate = (struct candidate){start, end, number, level, check, (int)batch->candidates.count};
    }
    return true;
}

static bool widened(struct batch *batch, int number, int place) {
    const struct recogniser *of = &batch->core->recognisers[number];
    int low = place > of->back ? place - of->back : 0;
    int last = batch->last[number];
    struct window *windows = batch->windows.all;
    if (last >= 0 && low <= windows[last].high) {
        windows[last].high = place + of->ahead;
        return true;
    }
    struct window *window = added(&batch->windows);
    if (!window) return false;
    *window = (struct window){low, place + of->ahead, -1};
    windows = batch->windows.all;
    batch->last[number] = (int)batch->windows.count - 1;
    if (last < 0)
        batch->first[number] = batch->last[number];
    else
        windows[last].next = batch->last[number];
    return true;
}

/* Merges the anchors' ends, which ascend, into windows for each recogniser. */
static bool windows_made(struct batch *batch, const struct seen *seen, const struct place *places) {
    const Core *core = batch->core;
    batch->windows.count = 0;
    memset(batch->first, 0xff, sizeof batch->first);
    memset(batch->last, 0xff, sizeof batch->last);
    for (const struct place *place = places + seen->first; place < places + seen->first + seen->places; place++) {
        if (place->expression >= core->anchor_count) continue;  /* a sign */
        const struct users *users = &core->anchors[place->expression];
        for (int at = 0; at < users->count; at++)
            if (!widened(batch, users->numbers[at], place->end)) return false;
    }
    return true;
}

/* Whether a character that folding changes stands in sight of a window. */
static bool touched(const struct batch *batch, const uint16_t *kinds, int length) {
    const struct window *windows = batch->windows.all;
    for (size_t each = 0; each < batch->windows.count; each++) {
        int low = windows[each].low > SIGHT ? windows[each].low - SIGHT : 0;
        int high = windows[each].high < length ? windows[each].high : length;
        high = length - high > SIGHT ? high + SIGHT : length;
        for (int at = low; at < high; at++)
            if (is_harmless(kinds[at])) return true;
    }
    return false;
}

/* Finds all hits of one text. Without the lock. */
static bool judged_text(struct batch *batch, struct seen *seen, const struct place *places, int stopping) {
    struct match m;
    m.text = batch->text + seen->text;
    m.kinds = batch->kinds + seen->text;
    for (int at = 0; at < seen->length; at++)
        batch->kinds[seen->text + at] = (uint16_t)code_point_kind(m.text[at]);
    if (!windows_made(batch, seen, places)) return false;
    if (stopping & FOLDED && seen->is_marked && touched(batch, m.kinds, seen->length)) {
        seen->signs |= FOLDED;
        return true;
    }
    batch->candidates.count = 0;
    for (int number = 0; number < batch->core->recogniser_count; number++)
        for (int at = batch->first[number]; at >= 0;) {
            struct window window = ((struct window *)batch->windows.all)[at];
            int high = window.high < seen->length ? window.high : seen->length;
            if (!looked(batch, number, &m, seen->length, window.low, high)) return false;
            at = window.next;
        }
    return chosen(batch, seen);
}

/* --- many texts --------------------------------------------------------------------------------------------------- */

/* Called by Hyperscan's package for each match: (expression, start, end, flags, context). */
static PyObject *collect(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count) {
    struct places *places = PyCapsule_GetPointer(capsule, NULL);
    if (!places || count < 3) return PyErr_Format(PyExc_TypeError, "a match has five parts");
    if (places->count == places->room) {
        size_t room = places->room ? 2 * places->room : 4096;
        struct place *all = realloc(places->all, room * sizeof *all);
        if (!all) return PyErr_NoMemory();
        places->all = all;
        places->room = room;
    }
    long expression = PyLong_AsLong(arguments[0]), end = PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred()) return NULL;
    places->all[places->count++] = (struct place){(int)end, (int)expression};
    Py_RETURN_NONE;
}

static PyMethodDef collect_method = {"collect", (PyCFunction)(void (*)(void))collect, METH_FASTCALL, NULL};

static int by_end(const void *one, const void *other) {
    const struct place *a = one, *b = other;
    return a->end != b->end ? (a->end < b->end ? -1 : 1) : (a->expression > b->expression) - (a->expression < b->expression);
}

/* The matches of one pass over written texts, by their ends; the caller frees them. NULL with an error set. */
static struct place *passed(Core *core, PyObject *written, size_t *count) {
    core->places.count = 0;
    PyObject *arguments[] = {written, core->collector};
    PyObject *said = PyObject_Vectorcall(core->scan, arguments, 1, handler_names);
    if (!said) return NULL;
    Py_DECREF(said);
    struct places *places = &core->places;
    for (size_t at = 1; at < places->count; at++)
        if (places->all[at].end < places->all[at - 1].end) {
            qsort(places->all, places->count, sizeof *places->all, by_end);
            break;
        }
    struct place *copy = malloc((places->count + 1) * sizeof *copy);
    if (!copy) {
        PyErr_NoMemory();
        return NULL;
    }
    if (places->count) memcpy(copy, places->all, places->count * sizeof *copy);
    *count = places->count;
    return copy;
}

/* Writes a text in the alphabet; returns whether a character may have to be folded. */
static bool written_into(uint8_t *to, PyObject *text, const uint8_t *alphabet, const uint8_t *marks) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    uint8_t marked = 0;
    if (kind == PyUnicode_1BYTE_KIND)
        for (Py_ssize_t at = 0; at < length; at++) marked |= marks[to[at] = alphabet[((const Py_UCS1 *)data)[at]]];
    else if (kind == PyUnicode_2BYTE_KIND)
        for (Py_ssize_t at = 0; at < length; at++) marked |= marks[to[at] = alphabet[((const Py_UCS2 *)data)[at]]];
    else
        for (Py_ssize_t at = 0; at < length; at++) marked |= marks[to[at] = alphabet[((const Py_UCS4 *)data)[at]]];
    return marked;
}

/* Whether folding may matter whatever else stands in a text (normalise.py says which characters are what). */
static bool is_to_fold(PyObject *text) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    int form = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    for (Py_ssize_t at = 0; at < length; at++) {
        int kind = code_point_kind(PyUnicode_READ(form, data, at));
        if (is_foreign(kind)) return true;
        if (!is_harmless(kind)) continue;
        if (is_joiner(kind) && (!at || !is_joined(code_point_kind(PyUnicode_READ(form, data, at - 1))))) return true;
        Py_ssize_t low = at > SENSITIVE_REACH ? at - SENSITIVE_REACH : 0;
        Py_ssize_t high = length - at > SENSITIVE_REACH ? at + SENSITIVE_REACH : length - 1;
        for (Py_ssize_t near = low; near <= high; near++)
            if (is_sensitive(code_point_kind(PyUnicode_READ(form, data, near)))) return true;
    }
    return false;
}

struct work {
    PyObject *fields;
    int undone;  /* signs that have been undone before */
    Py_ssize_t count;
    PyObject **texts, **views;  /* what is looked at, and where it stands in what came; no view where it came like this */
    bool *marked;
    int *limits;  /* characters up to the end of each text and the line end behind it */
    struct place *places;
    struct seen *seen;
    int with;
};

static void ended(struct work *work) {
    for (Py_ssize_t at = 0; at < work->count; at++) {
        Py_XDECREF(work->texts[at]);
        Py_XDECREF(work->views[at]);
    }
    free(work->texts);
    free(work->views);
    free(work->marked);
    free(work->limits);
    free(work->places);
    free(work->seen);
}

/* Puts the folded text in the place of one. */
static bool folded(Core *core, struct work *work, Py_ssize_t at) {
    PyObject *view = PyObject_CallOneArg(core->fold, work->texts[at]);
    PyObject *text = view ? PyObject_GetAttr(view, text_name) : NULL;
    if (text && !PyUnicode_Check(text)) PyErr_SetString(PyExc_TypeError, "a view has a text");
    if (!text || PyErr_Occurred()) {
        Py_XDECREF(view);
        Py_XDECREF(text);
        return false;
    }
    Py_SETREF(work->texts[at], text);
    work->views[at] = view;
    return true;
}

/* Texts as lines: what finds an expression at the end of a text finds it at a line's. Folds those that are to be folded. */
static PyObject *written(Core *core, struct work *work) {
    const uint8_t *alphabet = (const uint8_t *)PyBytes_AS_STRING(core->alphabet);
    const uint8_t *marks = (const uint8_t *)PyBytes_AS_STRING(core->marks);
    size_t together = 0, room = 0;
    uint8_t *lines = NULL;
    for (Py_ssize_t at = 0; at < work->count; at++) {
        bool again = true;
        while (again) {
            size_t needed = together + (size_t)PyUnicode_GET_LENGTH(work->texts[at]) + 1;
            if (needed > INT32_MAX / 8) {
                PyErr_SetString(PyExc_ValueError, "texts are too long together");
                goto failed;
            }
            if (needed > room) {
                room = 2 * needed > 4096 ? 2 * needed : 4096;
                uint8_t *more = realloc(lines, room);
                if (!more) {
                    PyErr_NoMemory();
                    goto failed;
                }
                lines = more;
            }
            work->marked[at] = written_into(lines + together, work->texts[at], alphabet, marks);
            again = work->marked[at] && !(work->undone & FOLDED) && !work->views[at] && is_to_fold(work->texts[at]);
            if (again && !folded(core, work, at)) goto failed;
        }
        together += (size_t)PyUnicode_GET_LENGTH(work->texts[at]);
        lines[together++] = alphabet['\n'];
        work->limits[at] = (int)together;
    }
    PyObject *written = PyBytes_FromStringAndSize((char *)lines, (Py_ssize_t)together);
    free(lines);
    return written;
failed:
    free(lines);
    return NULL;
}

/* Puts places, which ascend, to the texts in which they lie, counted within each. Returns how many texts have any. */
static int shared_out(struct place *places, size_t count, const int *limits, int texts, struct seen *seen) {
    int number = 0, with = 0;
    for (size_t at = 0; at < count; at++) {
        while (number < texts && limits[number] < places[at].end) number++;
        if (number == texts) break;
        int start = number ? limits[number - 1] : 0, length = limits[number] - start - 1;
        if (!with || seen[with - 1].number != number)
            seen[with++] = (struct seen){.number = number, .length = length, .first = at};
        seen[with - 1].places++;
        int end = places[at].end - start;
        places[at].end = end < length ? end : length;
    }
    return with;
}

/* What is to be looked at, in places of its own: folding puts other texts there. */
static bool gathered(PyObject *texts, PyObject *views, struct work *work) {
    PyObject *all = PySequence_Fast(texts, "texts are a sequence");
    PyObject *seen = views == Py_None ? NULL : PySequence_Fast(views, "views are a sequence");
    bool well = all && (seen || views == Py_None);
    Py_ssize_t count = well ? PySequence_Fast_GET_SIZE(all) : 0;
    if (well && seen && PySequence_Fast_GET_SIZE(seen) != count) {
        PyErr_SetString(PyExc_ValueError, "each text has its view");
        well = false;
    }
    size_t room = (size_t)count + 1;
    work->texts = calloc(room, sizeof *work->texts);
    work->views = calloc(room, sizeof *work->views);
    work->marked = calloc(room, sizeof *work->marked);
    work->limits = malloc(room * sizeof *work->limits);
    work->seen = malloc(room * sizeof *work->seen);
    if (well && !(work->texts && work->views && work->marked && work->limits && work->seen)) {
        PyErr_NoMemory();
        well = false;
    }
    for (; well && work->count < count; work->count++) {
        PyObject *text = PySequence_Fast_GET_ITEM(all, work->count);
        if (!PyUnicode_Check(text)) {
            PyErr_SetString(PyExc_TypeError, "texts are strings");
            well = false;
            break;
        }
        work->texts[work->count] = Py_NewRef(text);
        work->views[work->count] = seen ? Py_NewRef(PySequence_Fast_GET_ITEM(seen, work->count)) : NULL;
    }
    Py_XDECREF(all);
    Py_XDECREF(seen);
    return well;
}

/* The pass: which texts have places at all, and in which a sign of disguise stands. */
static bool begun(Core *core, struct work *work) {
    PyObject *lines = written(core, work);
    if (!lines) return false;
    size_t count = 0;
    work->places = passed(core, lines, &count);
    Py_DECREF(lines);
    if (!work->places) return false;
    for (size_t at = 0; at < count; at++)
        if (work->places[at].expression < 0 || work->places[at].expression > core->anchor_count) {
            PyErr_SetString(PyExc_ValueError, "a match of an expression that is not known");
            return false;
        }
    work->with = shared_out(work->places, count, work->limits, (int)work->count, work->seen);
    for (int number = 0; number < work->with; number++) {
        struct seen *seen = &work->seen[number];
        seen->is_marked = work->marked[seen->number] && !work->views[seen->number];
        for (size_t at = seen->first; at < seen->first + seen->places; at++)
            if (work->places[at].expression == core->anchor_count) seen->signs = VEILED;
    }
    return true;
}

/* Sets where a hit stands in the text as it came. */
static bool origin(PyObject *view, const struct candidate *of, PyObject **start, PyObject **end) {
    *start = PyLong_FromLong(of->start);
    *end = PyLong_FromLong(of->end);
    if (!view || !*start || !*end) return *start && *end;
    PyObject *arguments[] = {view, *start, *end};
    PyObject *both = PyObject_VectorcallMethod(origin_name, arguments, 3, NULL);
    Py_CLEAR(*start);
    Py_CLEAR(*end);
    if (both && PyArg_ParseTuple(both, "OO", start, end)) {
        Py_INCREF(*start);
        Py_INCREF(*end);
    }
    Py_XDECREF(both);
    return *start && *end;
}

static PyObject *hit_made(const Core *core, const struct candidate *of, PyObject *text, PyObject *field, PyObject *view) {
    const struct recogniser *recogniser = &core->recognisers[of->recogniser];
    PyTypeObject *type = (PyTypeObject *)core->hit_type;
    PyObject *start, *end, *hit = NULL;
    PyObject *value = recogniser->watchable ? PyUnicode_Substring(text, of->start, of->end) : Py_NewRef(core->nothing);
    if (!origin(view, of, &start, &end) || !value || !(hit = type->tp_alloc(type, HIT_FIELDS))) {
        Py_XDECREF(start);
        Py_XDECREF(end);
        Py_XDECREF(value);
        return NULL;
    }
    PyObject *parts[HIT_FIELDS] = {
        Py_NewRef(recogniser->kind), Py_NewRef(recogniser->rule_id),  Py_NewRef(recogniser->version),
        Py_NewRef(field),            start,                           end,
        Py_NewRef(core->levels[of->level]),                           Py_NewRef(core->checks[of->check]),
        Py_NewRef(recogniser->mask), Py_NewRef(recogniser->national), Py_NewRef(recogniser->personal),
        value,
    };
    for (int at = 0; at < HIT_FIELDS; at++) PyTuple_SET_ITEM(hit, at, parts[at]);
    PyObject_GC_UnTrack(hit);  /* nothing in it can lead back to it, and posts that hold much would keep the collector busy */
    return hit;
}

/* Adds what was found in one text to the answers. */
static bool told(const struct batch *batch, const struct work *work, const struct seen *seen, PyObject *hits) {
    if (!seen->hits) return true;
    const struct candidate *all = (const struct candidate *)batch->hits.all + seen->first_hit;
    PyObject *list = PyList_New((Py_ssize_t)seen->hits), *number = PyLong_FromLong(seen->number);
    PyObject *text = work->texts[seen->number], *field = PySequence_GetItem(work->fields, seen->number);
    bool well = list && number && field;
    for (size_t at = 0; well && at < seen->hits; at++) {
        PyObject *hit = hit_made(batch->core, &all[at], text, field, work->views[seen->number]);
        if (hit)
            PyList_SET_ITEM(list, (Py_ssize_t)at, hit);
        else
            well = false;
    }
    well = well && PyDict_SetItem(hits, number, list) == 0;
    Py_XDECREF(list);
    Py_XDECREF(number);
    Py_XDECREF(field);
    return well;
}

static bool signs_told(const struct work *work, const struct seen *seen, PyObject *signs) {
    PyObject *view = work->views[seen->number];
    PyObject *number = PyLong_FromLong(seen->number), *said = Py_BuildValue("(iO)", seen->signs, view ? view : Py_None);
    bool well = number && said && PyDict_SetItem(signs, number, said) == 0;
    Py_XDECREF(number);
    Py_XDECREF(said);
    return well;
}

/* Judges all texts that are to be judged and tells of them. */
static bool all_judged(Core *core, struct work *work, PyObject *hits, PyObject *signs) {
    struct batch batch = {
        .core = core,
        .windows.size = sizeof(struct window),
        .candidates.size = sizeof(struct candidate),
        .hits.size = sizeof(struct candidate),
    };
    bool well = false;
    size_t together = 0;
    int stopping = (FOLDED | VEILED) & ~work->undone;
    for (int at = 0; at < work->with; at++) {
        struct seen *seen = &work->seen[at];
        if (seen->signs & stopping) continue;
        seen->text = together;
        together += seen->length;
    }
    batch.text = malloc((together + 1) * sizeof *batch.text);
    batch.kinds = malloc((together + 1) * sizeof *batch.kinds);
    if (!batch.text || !batch.kinds) {
        PyErr_NoMemory();
        goto end;
    }
    for (int at = 0; at < work->with; at++) {
        struct seen *seen = &work->seen[at];
        if (seen->signs & stopping) continue;
        if (seen->length && !PyUnicode_AsUCS4(work->texts[seen->number], batch.text + seen->text, seen->length, 0)) goto end;
    }
    batch.without_lock = PyEval_SaveThread();
    bool enough = true;
    for (int at = 0; enough && at < work->with; at++)
        if (!(work->seen[at].signs & stopping))
            enough = judged_text(&batch, &work->seen[at], work->places, stopping);
    PyEval_RestoreThread(batch.without_lock);
    if (!enough) {
        if (!batch.failed) PyErr_NoMemory();
        goto end;
    }
    for (int at = 0; at < work->with; at++) {
        const struct seen *seen = &work->seen[at];
        if (!(seen->signs & stopping ? signs_told(work, seen, signs) : told(&batch, work, seen, hits))) goto end;
    }
    well = true;
end:
    free(batch.text);
    free(batch.kinds);
    free(batch.windows.all);
    free(batch.candidates.all);
    free(batch.hits.all);
    return well;
}

static bool taken(Core *core) {
    if (core->busy) PyErr_SetString(PyExc_RuntimeError, "one thread at a time looks through texts");
    return !core->busy && (core->busy = true);
}

PyDoc_STRVAR(look_doc,
             "look(texts, fields, undone, views, /)\n--\n\nThe hits of each text that has any, by its number; and the texts "
             "that are not judged, since a sign of disguise stands in them that is not among those `undone`: (signs, the view "
             "where it was folded). Places are those of the text, or what the `origin` of its view says of them.");

static PyObject *core_look(Core *core, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 4) return PyErr_Format(PyExc_TypeError, "look takes texts, fields, undone, views");
    long undone = PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred() || !taken(core)) return NULL;
    struct work work = {.undone = (int)undone, .fields = arguments[1]};
    PyObject *hits = PyDict_New(), *signs = PyDict_New(), *both = NULL;
    if (hits && signs && gathered(arguments[0], arguments[3], &work) && begun(core, &work) &&
        all_judged(core, &work, hits, signs))
        both = PyTuple_Pack(2, hits, signs);
    Py_XDECREF(hits);
    Py_XDECREF(signs);
    ended(&work);
    core->busy = false;
    return both;
}

/* --- what the recognisers are ------------------------------------------------------------------------------------- */

static check_function check_named(const char *name) {
    for (int at = 0; at < COUNT(CHECKS); at++)
        if (!strcmp(CHECKS[at].name, name)) return CHECKS[at].function;
    return NULL;
}

static bool question_of(PyObject *from, struct question *question) {
    if (from == Py_None) return true;
    if (!PyUnicode_Check(from)) {
        question->callable = Py_NewRef(from);
        return true;
    }
    const char *name = PyUnicode_AsUTF8(from);
    question->asked = name ? check_named(name) : NULL;
    if (name && !question->asked) PyErr_Format(PyExc_ValueError, "no check has the name %s", name);
    return question->asked != NULL;
}

static bool is_expression(int number, bool needed) { return number < EXPRESSION_COUNT && number >= (needed ? 0 : -1); }

static bool recogniser_of(PyObject *row, struct recogniser *to) {
    PyObject *check, *lookalike;
    int secret, watchable;
    if (!PyTuple_Check(row) || !PyArg_ParseTuple(row, "(iii)(ii)(ii)OO(iii)(iii)ipp(OOOOOO)", &to->expression, &to->near,
                                                 &to->against, &to->before, &to->after, &to->back, &to->ahead, &check,
                                                 &lookalike, &to->levels[0][0], &to->levels[0][1], &to->levels[0][2],
                                                 &to->levels[1][0], &to->levels[1][1], &to->levels[1][2], &to->whole,
                                                 &secret, &watchable, &to->kind, &to->rule_id, &to->version, &to->mask,
                                                 &to->national, &to->personal)) {
        to->kind = to->rule_id = to->version = to->mask = to->national = to->personal = NULL;
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a recogniser is a tuple");
        return false;
    }
    PyObject *kept[] = {to->kind, to->rule_id, to->version, to->mask, to->national, to->personal};
    for (int at = 0; at < COUNT(kept); at++) Py_INCREF(kept[at]);
    to->secret = secret;
    to->watchable = watchable;
    bool levels = to->whole >= 0 && to->whole < 3;
    for (int at = 0; at < 6; at++) levels = levels && to->levels[at / 3][at % 3] >= 0 && to->levels[at / 3][at % 3] < 3;
    if (!levels || !is_expression(to->expression, true) || !is_expression(to->near, false) ||
        !is_expression(to->against, false) || to->before < 0 || to->after < 0 || to->back < 0 || to->ahead < 0) {
        PyErr_SetString(PyExc_ValueError, "a recogniser that cannot be");
        return false;
    }
    return question_of(check, &to->check) && question_of(lookalike, &to->lookalike);
}

/* The recognisers of each anchor: a sequence of bytes of their numbers. */
static struct users *users_of(PyObject *from, int recognisers, int *count) {
    PyObject *sequence = PySequence_Fast(from, "anchors' recognisers are a sequence");
    if (!sequence) return NULL;
    *count = (int)PySequence_Fast_GET_SIZE(sequence);
    struct users *users = calloc((size_t)*count + 1, sizeof *users);
    if (!users) PyErr_NoMemory();
    for (int at = 0; users && at < *count; at++) {
        PyObject *numbers = PySequence_Fast_GET_ITEM(sequence, at);
        if (!PyBytes_Check(numbers)) {
            PyErr_SetString(PyExc_TypeError, "recognisers' numbers are bytes");
            break;
        }
        users[at].count = (int)PyBytes_GET_SIZE(numbers);
        users[at].numbers = malloc((size_t)users[at].count + 1);
        if (!users[at].numbers) {
            PyErr_NoMemory();
            break;
        }
        memcpy(users[at].numbers, PyBytes_AS_STRING(numbers), (size_t)users[at].count);
        for (int each = 0; each < users[at].count; each++)
            if (users[at].numbers[each] >= recognisers) PyErr_SetString(PyExc_ValueError, "no such recogniser");
    }
    Py_DECREF(sequence);
    return users;
}

static void freed(struct users *users, int count) {
    for (int at = 0; users && at < count; at++) free(users[at].numbers);
    free(users);
}

static void core_dealloc(Core *core) {
    PyTypeObject *type = Py_TYPE(core);
    for (int at = 0; at < core->recogniser_count; at++) {
        struct recogniser *each = &core->recognisers[at];
        PyObject *kept[] = {each->kind, each->rule_id,  each->version,        each->mask,
                            each->national, each->personal, each->check.callable, each->lookalike.callable};
        for (int part = 0; part < COUNT(kept); part++) Py_XDECREF(kept[part]);
    }
    freed(core->anchors, core->anchor_count);
    PyObject *kept[] = {core->alphabet,  core->scan, core->fold, core->marks, core->collector, core->hit_type, core->nothing,
                        core->levels[1], core->levels[2], core->checks[1], core->checks[2]};
    for (int at = 0; at < COUNT(kept); at++) Py_XDECREF(kept[at]);
    free(core->places.all);
    type->tp_free(core);
    Py_DECREF(type);
}

static PyObject *core_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    static char *names[] = {"alphabet", "marks", "recognisers", "anchors", "scan", "fold", "hit", "levels", "checks",
                            "longest_link", NULL};
    PyObject *alphabet, *marks, *recognisers, *anchors, *scan, *fold, *hit, *low, *high, *unknown, *yes;
    int link;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "SSOOOOO(OO)(OO)i", names, &alphabet, &marks, &recognisers,
                                     &anchors, &scan, &fold, &hit, &low, &high, &unknown, &yes, &link))
        return NULL;
    if (PyBytes_GET_SIZE(alphabet) != 0x110000 || PyBytes_GET_SIZE(marks) != 256 || link < 0 || !PyType_Check(hit) ||
        !PyType_IsSubtype((PyTypeObject *)hit, &PyTuple_Type))
        return PyErr_Format(PyExc_ValueError, "an alphabet has a byte for each code point, and a hit is a tuple");
    Core *core = (Core *)type->tp_alloc(type, 0);
    if (!core) return NULL;
    core->alphabet = Py_NewRef(alphabet);
    core->marks = Py_NewRef(marks);
    core->scan = Py_NewRef(scan);
    core->fold = Py_NewRef(fold);
    core->hit_type = Py_NewRef(hit);
    core->levels[1] = Py_NewRef(low);
    core->levels[2] = Py_NewRef(high);
    core->checks[CHECK_UNKNOWN] = Py_NewRef(unknown);
    core->checks[CHECK_YES] = Py_NewRef(yes);
    core->link = link;
    core->nothing = PyUnicode_FromString("");
    PyObject *capsule = PyCapsule_New(&core->places, NULL, NULL);
    core->collector = capsule ? PyCFunction_New(&collect_method, capsule) : NULL;
    Py_XDECREF(capsule);
    PyObject *rows = PySequence_Fast(recognisers, "recognisers are a sequence");
    if (!rows || !core->collector || !core->nothing) goto failed;
    if (PySequence_Fast_GET_SIZE(rows) > MOST_RECOGNISERS) {
        PyErr_Format(PyExc_ValueError, "at most %d recognisers", MOST_RECOGNISERS);
        goto failed;
    }
    for (Py_ssize_t at = 0; at < PySequence_Fast_GET_SIZE(rows); at++) {
        core->recogniser_count++;
        if (!recogniser_of(PySequence_Fast_GET_ITEM(rows, at), &core->recognisers[at])) goto failed;
    }
    core->anchors = users_of(anchors, core->recogniser_count, &core->anchor_count);
    if (!core->anchors || PyErr_Occurred()) goto failed;
    Py_DECREF(rows);
    return (PyObject *)core;
failed:
    Py_XDECREF(rows);
    Py_DECREF(core);
    return NULL;
}

static PyMethodDef core_methods[] = {
    {"look", (PyCFunction)(void (*)(void))core_look, METH_FASTCALL, look_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_methods, core_methods},
    {Py_tp_doc, "What looks through texts for the recognisers; not to be shared between threads."},
    {0, NULL},
};

static PyType_Spec core_spec = {"_core.Core", sizeof(Core), 0, Py_TPFLAGS_DEFAULT, core_slots};

/* --- for the tests that hold this against the reference ----------------------------------------------------------- */

PyDoc_STRVAR(check_doc, "check(name, value, /)\n--\n\nWhat a check says of a value: True, False or None.");

static PyObject *module_check(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *name;
    PyObject *value;
    if (!PyArg_ParseTuple(arguments, "sU", &name, &value)) return NULL;
    check_function check = check_named(name);
    if (!check) return PyErr_Format(PyExc_ValueError, "no check has the name %s", name);
    if (PyUnicode_GET_LENGTH(value) > INT32_MAX) return PyErr_Format(PyExc_ValueError, "a value that is too long");
    Py_UCS4 *points = PyUnicode_AsUCS4Copy(value);
    if (!points) return NULL;
    int answer = check(points, (int)PyUnicode_GET_LENGTH(value));
    PyMem_Free(points);
    if (answer == CHECK_UNKNOWN) Py_RETURN_NONE;
    return PyBool_FromLong(answer == CHECK_YES);
}

PyDoc_STRVAR(find_doc,
             "find(expression, text, low, high, /)\n--\n\nWhere an expression matches between two places: (start, end, start "
             "of the value, its end), -1 without a group that holds it.");

static PyObject *module_find(PyObject *module, PyObject *arguments) {
    (void)module;
    int expression, low, high;
    PyObject *text;
    if (!PyArg_ParseTuple(arguments, "iUii", &expression, &text, &low, &high)) return NULL;
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (!is_expression(expression, true) || low < 0 || high > length || low > high)
        return PyErr_Format(PyExc_ValueError, "no such expression or place");
    Py_UCS4 *points = PyUnicode_AsUCS4Copy(text);
    uint16_t *kinds = malloc(((size_t)length + 1) * sizeof *kinds);
    PyObject *all = points && kinds ? PyList_New(0) : PyErr_NoMemory();
    for (Py_ssize_t at = 0; all && at < length; at++) kinds[at] = (uint16_t)code_point_kind(points[at]);
    struct match m;
    m.text = points;
    m.kinds = kinds;
    while (all && found(&m, expression, low, high)) {
        const int *values = EXPRESSIONS[expression].values;
        int start = -1, end = -1;
        for (int at = 0; at < 3 && values[at] && start < 0; at++) {
            start = m.marks[2 * values[at]];
            end = start < 0 ? -1 : m.marks[2 * values[at] + 1];
        }
        PyObject *match = Py_BuildValue("(iiii)", m.start, m.stop, start, end);
        if (!match || PyList_Append(all, match) < 0) Py_CLEAR(all);
        Py_XDECREF(match);
        low = m.stop;
    }
    PyMem_Free(points);
    free(kinds);
    return all;
}

static PyMethodDef module_methods[] = {
    {"check", module_check, METH_VARARGS, check_doc},
    {"find", module_find, METH_VARARGS, find_doc},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    if (!handler_names) {
        origin_name = PyUnicode_InternFromString("origin");
        text_name = PyUnicode_InternFromString("text");
        handler_names = Py_BuildValue("(s)", "match_event_handler");
        if (!origin_name || !text_name || !handler_names) return -1;
    }
    PyObject *type = PyType_FromSpec(&core_spec);
    int well = type ? PyModule_AddObjectRef(module, "Core", type) : -1;
    Py_XDECREF(type);
    PyObject *names = well == 0 ? PyList_New(0) : NULL;
    for (int at = 0; names && at < COUNT(CHECKS); at++) {
        PyObject *name = PyUnicode_FromString(CHECKS[at].name);
        if (!name || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    PyObject *checks = names ? PyFrozenSet_New(names) : NULL;
    well = checks ? PyModule_AddObjectRef(module, "CHECKS", checks) : -1;
    Py_XDECREF(names);
    Py_XDECREF(checks);
    return well == 0 ? PyModule_AddStringConstant(module, "FINGERPRINT", FINGERPRINT) : -1;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_core", .m_size = 0, .m_methods = module_methods, .m_slots = module_slots};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module); }
