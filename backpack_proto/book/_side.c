/* One side of a book: the twin of side.py in C, which says what it is and how it is to behave.

   It knows no rule of the exchange. A rank is the number that a price's text says, as 48 decimal digits, 20 before the point and 28
   behind it, 16 of them in each of three words; those of asks are complemented, so that on both sides the better rank is the higher one. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 3
#define DIGITS_OF_A_WORD 16
#define MOST_BEFORE_THE_POINT 20
#define MOST_BEHIND_THE_POINT 28
/* So many changes of a frame need no memory of their own; few frames have more. */
#define FEW 32

typedef struct {
    uint64_t words[WORDS];
} Rank;

typedef struct {
    PyObject_HEAD
    Rank *ranks; /* of `levels`, in the same order: the best stands last */
    PyObject **levels;
    Py_ssize_t count;
    Py_ssize_t room;
    Py_ssize_t shown;
    int best_is_highest;
    PyObject *edge; /* a level, or None */
    Rank edge_rank;
    PyObject *top; /* NULL once one of its levels has changed: it is made when it is read, so that a change needs no memory for it */
} Side;

/* A level, its texts read. */
typedef struct {
    Rank rank;
    PyObject *level; /* a reference of its own; once the change is made, of what it has replaced, or NULL */
    Py_ssize_t place; /* among the others */
    int rests;
} Change;

typedef struct {
    PyTypeObject *side;
    PyObject *price_text;
    PyObject *quantity_text;
} State;

/* Numbers. */

static int
compare(const Rank *one, const Rank *other)
{
    for (int i = 0; i < WORDS; i++) {
        if (one->words[i] != other->words[i]) {
            return one->words[i] < other->words[i] ? -1 : 1;
        }
    }
    return 0;
}

static void
complement(Rank *rank)
{
    for (int i = 0; i < WORDS; i++) {
        rank->words[i] = ~rank->words[i];
    }
}

/* Read a number in plain digits; return -1 with an exception set, 0 where it is none, 1 where it is zero, 2 otherwise. */
static int
read_number(PyObject *text, Rank *rank)
{
    Py_ssize_t size, whole = 0;
    const char *characters;

    if (!PyUnicode_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "the price and the quantity of a level are texts");
        return -1;
    }
    characters = PyUnicode_AsUTF8AndSize(text, &size);
    if (characters == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return -1;
        }
        PyErr_Clear(); /* half a surrogate pair is no digit */
        return 0;
    }
    while (whole < size && characters[whole] >= '0' && characters[whole] <= '9') {
        whole++;
    }
    if (whole == 0 || whole > MOST_BEFORE_THE_POINT) {
        return 0;
    }
    if (whole < size) {
        Py_ssize_t behind = size - whole - 1;
        if (characters[whole] != '.' || behind == 0 || behind > MOST_BEHIND_THE_POINT) {
            return 0;
        }
    }
    int place = MOST_BEFORE_THE_POINT - (int)whole, any = 0;
    memset(rank, 0, sizeof *rank);
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned digit = (unsigned char)characters[i] - (unsigned)'0';
        if (i == whole) {
            continue;
        }
        if (digit > 9) {
            return 0;
        }
        uint64_t *word = &rank->words[place / DIGITS_OF_A_WORD];
        *word = *word * 10 + digit;
        any |= (int)digit;
        place++;
    }
    for (; place % DIGITS_OF_A_WORD; place++) {
        rank->words[place / DIGITS_OF_A_WORD] *= 10;
    }
    return any ? 2 : 1;
}

/* Read a price; return -1 with an exception set where it is none. */
static int
read_price(const Side *side, PyObject *text, Rank *rank)
{
    int found = read_number(text, rank);
    if (found < 2) {
        if (found >= 0) {
            PyErr_SetString(PyExc_ValueError, "a level needs a positive price in plain digits");
        }
        return -1;
    }
    if (!side->best_is_highest) {
        complement(rank);
    }
    return 0;
}

static int
read_level(const State *state, const Side *side, PyObject *level, Change *change)
{
    Rank quantity;
    int found;
    PyObject *text = PyObject_GetAttr(level, state->price_text);
    if (text == NULL) {
        return -1;
    }
    found = read_price(side, text, &change->rank);
    Py_DECREF(text);
    if (found < 0) {
        return -1;
    }
    text = PyObject_GetAttr(level, state->quantity_text);
    if (text == NULL) {
        return -1;
    }
    found = read_number(text, &quantity);
    Py_DECREF(text);
    if (found < 1) {
        if (found == 0) {
            PyErr_SetString(PyExc_ValueError, "a level needs a quantity in plain digits that is not negative");
        }
        return -1;
    }
    change->rests = found == 2;
    Py_INCREF(level);
    change->level = level;
    return 0;
}

static void
let_go(Change *changes, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(changes[i].level);
    }
}

/* Read all levels of a tuple; return -1 with an exception set, and none read, where one of them is no level. */
static int
read_levels(const State *state, const Side *side, PyObject *levels, Py_ssize_t count, Change *changes)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        changes[i].place = i;
        if (read_level(state, side, PyTuple_GetItem(levels, i), &changes[i]) < 0) {
            let_go(changes, i);
            return -1;
        }
    }
    return 0;
}

/* The two arrays. */

static int
make_room(Side *side, Py_ssize_t more)
{
    if (side->count + more <= side->room) {
        return 0;
    }
    Py_ssize_t room = side->room + side->room / 4 + more + 8;
    Rank *ranks = PyMem_Realloc(side->ranks, (size_t)room * sizeof(Rank));
    if (ranks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    side->ranks = ranks;
    PyObject **levels = PyMem_Realloc(side->levels, (size_t)room * sizeof(PyObject *));
    if (levels == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    side->levels = levels;
    side->room = room;
    return 0;
}

/* The first place whose rank is not below this one. Most changes are near the touch, so it is looked for from there. */
static Py_ssize_t
find(const Side *side, const Rank *rank)
{
    Py_ssize_t low = 0, high = side->count, step = 4;
    while (step < high && compare(&side->ranks[high - step], rank) >= 0) {
        high -= step;
        step *= 2;
    }
    if (step < high) {
        low = high - step + 1;
    }
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (compare(&side->ranks[middle], rank) < 0) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* Return the best levels, best first, at most so many. */
static PyObject *
best_of(const Side *side, Py_ssize_t most)
{
    Py_ssize_t count;
    PyObject *levels;
    for (;;) {
        count = most < side->count ? most : side->count;
        levels = PyTuple_New(count);
        if (levels == NULL) {
            return NULL;
        }
        if (count == (most < side->count ? most : side->count)) {
            break;
        }
        Py_DECREF(levels); /* a garbage collection has run somebody's code, which has changed this side */
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *level = side->levels[side->count - 1 - i];
        Py_INCREF(level);
        PyTuple_SetItem(levels, i, level);
    }
    return levels;
}

/* Make changes for which there is room. Nothing is let go of meanwhile, for that may run anybody's code; return what is to be. */
static PyObject *
make(Side *side, Change *changes, Py_ssize_t count)
{
    int touched = 0;
    for (Change *change = changes; change < changes + count; change++) {
        Py_ssize_t at = find(side, &change->rank), behind = side->count - at;
        Rank *rank = side->ranks + at;
        PyObject **level = side->levels + at;
        if (behind && compare(rank, &change->rank) == 0) {
            PyObject *old = *level;
            if (change->rests) {
                *level = change->level;
                change->level = old;
            }
            else {
                memmove(rank, rank + 1, (size_t)(behind - 1) * sizeof *rank);
                memmove(level, level + 1, (size_t)(behind - 1) * sizeof *level);
                side->count--;
                Py_DECREF(change->level); /* its reader holds it, too */
                change->level = old;
            }
        }
        else if (change->rests && (side->edge == Py_None || compare(&change->rank, &side->edge_rank) >= 0)) {
            memmove(rank + 1, rank, (size_t)behind * sizeof *rank);
            memmove(level + 1, level, (size_t)behind * sizeof *level);
            *rank = change->rank;
            *level = change->level;
            change->level = NULL;
            side->count++;
        }
        else {
            continue;
        }
        touched |= behind <= side->shown;
    }
    PyObject *old = touched ? side->top : NULL;
    if (touched) {
        side->top = NULL;
    }
    return old;
}

/* Whether both sides have levels, and the best bid is below the best ask. */
static int
is_apart(const Side *bids, const Side *asks)
{
    if (!bids->count || !asks->count) {
        return 0;
    }
    Rank ask = asks->ranks[asks->count - 1];
    complement(&ask);
    return compare(&bids->ranks[bids->count - 1], &ask) < 0;
}

/* The type. */

static int
by_rank(const void *one, const void *other)
{
    const Change *first = one, *second = other;
    int order = compare(&first->rank, &second->rank);
    return order ? order : (first->place > second->place) - (first->place < second->place);
}

/* Fill an empty side with levels in any order; of two with one price the later one rests. */
static int
fill(const State *state, Side *side, PyObject *levels)
{
    Py_ssize_t count = PyTuple_Size(levels);
    Change *changes = PyMem_Calloc((size_t)count + 1, sizeof(Change));
    if (changes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (read_levels(state, side, levels, count, changes) < 0) {
        PyMem_Free(changes);
        return -1;
    }
    if (make_room(side, count) < 0) {
        let_go(changes, count);
        PyMem_Free(changes);
        return -1;
    }
    qsort(changes, (size_t)count, sizeof(Change), by_rank);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!changes[i].rests) {
            continue;
        }
        if (side->count && compare(&side->ranks[side->count - 1], &changes[i].rank) == 0) {
            PyObject *old = side->levels[side->count - 1];
            side->levels[side->count - 1] = changes[i].level;
            changes[i].level = old;
            continue;
        }
        side->ranks[side->count] = changes[i].rank;
        side->levels[side->count] = changes[i].level;
        changes[i].level = NULL;
        side->count++;
    }
    let_go(changes, count);
    PyMem_Free(changes);
    return 0;
}

static void
empty(Side *side)
{
    PyObject **levels = side->levels, *edge = side->edge, *top = side->top;
    Py_ssize_t count = side->count;
    PyMem_Free(side->ranks);
    side->ranks = NULL;
    side->levels = NULL;
    side->edge = side->top = NULL;
    side->count = side->room = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF(levels[i]);
    }
    PyMem_Free(levels);
    Py_XDECREF(edge);
    Py_XDECREF(top);
}

static const State *
state_of(PyObject *self)
{
    PyObject *found = PyType_GetModule(Py_TYPE(self));
    return found == NULL ? NULL : PyModule_GetState(found);
}

static PyObject *
side_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"levels", "best_is_highest", "limit", NULL};
    PyObject *given, *limit = Py_None;
    int best_is_highest = -1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$pO", names, &given, &best_is_highest, &limit)) {
        return NULL;
    }
    if (best_is_highest < 0) {
        PyErr_SetString(PyExc_TypeError, "BookSide() missing 1 required keyword-only argument: 'best_is_highest'");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Side *side = (Side *)allocate(type, 0);
    if (side == NULL) {
        return NULL;
    }
    side->best_is_highest = best_is_highest;
    side->shown = 1;
    side->edge = Py_None;
    Py_INCREF(Py_None);
    const State *state = state_of((PyObject *)side);
    PyObject *levels = state == NULL ? NULL : PySequence_Tuple(given);
    if (levels == NULL || fill(state, side, levels) < 0) {
        goto failed;
    }
    if (limit != Py_None) {
        Py_ssize_t most = PyLong_AsSsize_t(limit);
        if (most == -1 && PyErr_Occurred()) {
            goto failed;
        }
        if (0 < most && most <= side->count) {
            Py_INCREF(side->levels[0]);
            Py_DECREF(side->edge);
            side->edge = side->levels[0];
            side->edge_rank = side->ranks[0];
        }
    }
    Py_DECREF(levels);
    return (PyObject *)side;
failed:
    Py_XDECREF(levels);
    Py_DECREF(side);
    return NULL;
}

static void
side_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    empty((Side *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static Py_ssize_t
side_length(PyObject *self)
{
    return ((Side *)self)->count;
}

static PyObject *
side_exhausted(PyObject *self, void *Py_UNUSED(closure))
{
    Side *side = (Side *)self;
    return PyBool_FromLong(!side->count && side->edge != Py_None);
}

static PyObject *
side_best(PyObject *self, void *Py_UNUSED(closure))
{
    Side *side = (Side *)self;
    PyObject *best = side->count ? side->levels[side->count - 1] : Py_None;
    Py_INCREF(best);
    return best;
}

static PyObject *
side_top(PyObject *self, void *Py_UNUSED(closure))
{
    Side *side = (Side *)self;
    if (side->top == NULL) {
        PyObject *top = best_of(side, side->shown);
        if (top == NULL) {
            return NULL;
        }
        PyObject *old = side->top; /* somebody's code may have read it meanwhile */
        side->top = top;
        Py_XDECREF(old);
    }
    Py_INCREF(side->top);
    return side->top;
}

static PyObject *
side_show(PyObject *self, PyObject *count)
{
    Py_ssize_t shown = PyLong_AsSsize_t(count);
    if (shown == -1 && PyErr_Occurred()) {
        return NULL;
    }
    ((Side *)self)->shown = shown < 0 ? 0 : shown;
    Py_CLEAR(((Side *)self)->top);
    Py_RETURN_NONE;
}

static PyObject *
side_first(PyObject *self, PyObject *given)
{
    Side *side = (Side *)self;
    Py_ssize_t count = side->count;
    if (given != Py_None) {
        Py_ssize_t most = PyLong_AsSsize_t(given);
        if (most == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (most < 0) {
            PyErr_Format(PyExc_ValueError, "count: 0 or more, got %zd", most);
            return NULL;
        }
        if (most == side->shown) {
            return side_top(self, NULL);
        }
        count = most;
    }
    return best_of(side, count);
}

static PyObject *
side_find(PyObject *self, PyObject *price_text)
{
    Side *side = (Side *)self;
    Rank rank;
    if (read_price(side, price_text, &rank) < 0) {
        return NULL;
    }
    Py_ssize_t at = find(side, &rank);
    PyObject *level = at < side->count && compare(&side->ranks[at], &rank) == 0 ? side->levels[at] : Py_None;
    Py_INCREF(level);
    return level;
}

static PyMethodDef side_methods[] = {
    {"show", side_show, METH_O, "Have so many levels at hand in `top`."},
    {"first", side_first, METH_O, "Return the best levels, best first."},
    {"find", side_find, METH_O, "Return the level at a price, None where there is none."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef side_members[] = {
    {"edge", T_OBJECT_EX, offsetof(Side, edge), READONLY, "The last level that is known; None when the whole side is."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef side_properties[] = {
    {"best", side_best, NULL, "The best level, or None.", NULL},
    {"top", side_top, NULL, "The best levels, best first.", NULL},
    {"exhausted", side_exhausted, NULL, "All that was known is used up.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot side_slots[] = {
    {Py_tp_doc, "The levels of one side; beyond its edge nothing is known, and nothing is kept."},
    {Py_tp_new, side_new},
    {Py_tp_dealloc, side_dealloc},
    {Py_tp_methods, side_methods},
    {Py_tp_members, side_members},
    {Py_tp_getset, side_properties},
    {Py_sq_length, side_length},
    {0, NULL},
};

static PyType_Spec side_spec = {
    "backpack_proto.book._side.BookSide", sizeof(Side), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, side_slots,
};

/* The functions about both sides. */

static int
are_sides(const State *state, PyObject *bids, PyObject *asks)
{
    if (Py_TYPE(bids) != state->side || Py_TYPE(asks) != state->side || bids == asks
        || !((Side *)bids)->best_is_highest || ((Side *)asks)->best_is_highest) {
        PyErr_SetString(PyExc_TypeError, "bids, asks: the two sides of a book");
        return 0;
    }
    return 1;
}

static PyObject *
apart(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(self);
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "apart(bids, asks)");
        return NULL;
    }
    return are_sides(state, args[0], args[1]) ? PyBool_FromLong(is_apart((Side *)args[0], (Side *)args[1])) : NULL;
}

static PyObject *
change(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(self);
    Change few[FEW], *changes = few;
    PyObject *result = NULL;

    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "change(bids, asks, changed_bids, changed_asks)");
        return NULL;
    }
    if (!are_sides(state, args[0], args[1])) {
        return NULL;
    }
    Side *bids = (Side *)args[0], *asks = (Side *)args[1];
    PyObject *changed_asks = NULL, *changed_bids = PySequence_Tuple(args[2]);
    if (changed_bids == NULL || (changed_asks = PySequence_Tuple(args[3])) == NULL) {
        goto done;
    }
    Py_ssize_t of_bids = PyTuple_Size(changed_bids), of_asks = PyTuple_Size(changed_asks);
    if (of_bids + of_asks > FEW) {
        changes = PyMem_Calloc((size_t)(of_bids + of_asks), sizeof(Change));
        if (changes == NULL) {
            PyErr_NoMemory();
            goto done;
        }
    }
    if (read_levels(state, bids, changed_bids, of_bids, changes) < 0) {
        goto done;
    }
    if (read_levels(state, asks, changed_asks, of_asks, changes + of_bids) < 0) {
        let_go(changes, of_bids);
        goto done;
    }
    if (make_room(bids, of_bids) == 0 && make_room(asks, of_asks) == 0) {
        PyObject *old_bids = make(bids, changes, of_bids), *old_asks = make(asks, changes + of_bids, of_asks);
        result = PyBool_FromLong(is_apart(bids, asks));
        Py_XDECREF(old_bids);
        Py_XDECREF(old_asks);
    }
    let_go(changes, of_bids + of_asks);
done:
    if (changes != few) {
        PyMem_Free(changes);
    }
    Py_XDECREF(changed_bids);
    Py_XDECREF(changed_asks);
    return result;
}

static PyMethodDef functions[] = {
    {"apart", (PyCFunction)(void (*)(void))apart, METH_FASTCALL,
     "Return whether both sides have levels, and the best bid is below the best ask."},
    {"change", (PyCFunction)(void (*)(void))change, METH_FASTCALL,
     "Take in changed levels of both sides, or none of them; return whether the sides are `apart` then."},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *self)
{
    State *state = PyModule_GetState(self);
    state->price_text = PyUnicode_InternFromString("price_text");
    state->quantity_text = PyUnicode_InternFromString("quantity_text");
    state->side = (PyTypeObject *)PyType_FromModuleAndSpec(self, &side_spec, NULL);
    if (state->price_text == NULL || state->quantity_text == NULL || state->side == NULL) {
        return -1;
    }
    return PyModule_AddType(self, state->side);
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(self);
    Py_VISIT(state->side);
    return 0;
}

static int
clear(PyObject *self)
{
    State *state = PyModule_GetState(self);
    Py_CLEAR(state->side);
    Py_CLEAR(state->price_text);
    Py_CLEAR(state->quantity_text);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "backpack_proto.book._side",
    .m_doc = "One side of a book; the twin of `side` in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__side(void)
{
    return PyModuleDef_Init(&module);
}
