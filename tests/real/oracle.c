/* oracle.c: to be preloaded into python3 with PYTHONMALLOC=malloc: the library's tables against CPython's own
   tracemalloc, block by block.

   CPython has no function that says how large the block at an address is by its books. But it has one that strikes the
   block out of them, and its sum then falls by that much. Nothing here lives longer than a call, and free lists are
   filled before, so that the books do not change meanwhile. */

#define _GNU_SOURCE
#include "tables.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define API __attribute__((visibility("default"), used))

/* Of Python.h, which need not be there. */
typedef struct object PyObject;
PyObject *PyImport_ImportModule(const char *name);
PyObject *PyObject_GetAttrString(PyObject *object, const char *name);
PyObject *PyObject_CallNoArgs(PyObject *function);
PyObject *PyTuple_GetItem(PyObject *tuple, ssize_t at);
const char *PyUnicode_AsUTF8(PyObject *text);
size_t PyLong_AsSize_t(PyObject *number);
void Py_DecRef(PyObject *object);
int PyTraceMalloc_Untrack(unsigned domain, uintptr_t ptr);
PyObject *_PyTraceMalloc_GetTraceback(unsigned domain, uintptr_t ptr);
extern PyObject _Py_NoneStruct;
#pragma weak PyImport_ImportModule
#pragma weak PyObject_GetAttrString
#pragma weak PyObject_CallNoArgs
#pragma weak PyTuple_GetItem
#pragma weak PyUnicode_AsUTF8
#pragma weak PyLong_AsSize_t
#pragma weak Py_DecRef
#pragma weak PyTraceMalloc_Untrack
#pragma weak _PyTraceMalloc_GetTraceback
#pragma weak _Py_NoneStruct

struct block {
    uintptr_t address;
    uint64_t size;
};

#define BLOCKS_MAX (1 << 22)
struct list {
    struct block *blocks;
    size_t count;
};
static struct list marked, found;

static void add(uintptr_t address, uint64_t size, const struct tm_site *site, void *context)
{
    (void)site;
    struct list *list = context;
    if (list->count == BLOCKS_MAX)
        abort();
    list->blocks[list->count++] = (struct block){address, size};
}

static void collect(struct list *list)
{
    list->blocks = mmap(NULL, BLOCKS_MAX * sizeof(struct block), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (list->blocks == MAP_FAILED)
        abort();
    tables_walk(add, list);
}

/* By address alone: what came to a marked block's place counts as marked. The list is in the order of pages. */
static bool is_marked(uintptr_t address)
{
    uintptr_t page = address >> TM_PAGE_SHIFT;
    size_t low = 0, high = marked.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (marked.blocks[middle].address >> TM_PAGE_SHIFT < page)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < marked.count && marked.blocks[low].address >> TM_PAGE_SHIFT == page)
        if (marked.blocks[low++].address == address)
            return true;
    return false;
}

static size_t their_sum(PyObject *get_traced_memory)
{
    PyObject *sums = PyObject_CallNoArgs(get_traced_memory);
    size_t current = PyLong_AsSize_t(PyTuple_GetItem(sums, 0));
    Py_DecRef(sums);
    return current;
}

/* Writes ADDRESS OURS THEIRS EARLY LINE FILE; THEIRS is -1 where CPython does not know the block. */
static void compare(const struct block *block, PyObject *get_traced_memory, FILE *output)
{
    const char *file = "?";
    size_t line = 0;
    long theirs = -1;
    PyObject *traceback = _PyTraceMalloc_GetTraceback(0, block->address);
    if (traceback != &_Py_NoneStruct) {
        PyObject *frame = PyTuple_GetItem(traceback, 0);
        file = PyUnicode_AsUTF8(PyTuple_GetItem(frame, 0));
        line = PyLong_AsSize_t(PyTuple_GetItem(frame, 1));
        size_t before = their_sum(get_traced_memory);
        PyTraceMalloc_Untrack(0, block->address);
        theirs = (long)(before - their_sum(get_traced_memory));
    }
    fprintf(output, "%#lx %lu %ld %d %zu %s\n", block->address, block->size, theirs, is_marked(block->address), line,
            file);
    Py_DecRef(traceback);
}

/* Fills CPython's free lists with what `compare` needs at once. */
static void warm_up(PyObject *get_traced_memory)
{
    for (size_t i = 0; i < found.count; i++) {
        PyObject *traceback = _PyTraceMalloc_GetTraceback(0, found.blocks[i].address);
        their_sum(get_traced_memory);
        Py_DecRef(traceback);
        if (traceback != &_Py_NoneStruct)
            return;
    }
}

/* Remembers which blocks there are now. */
API void oracle_mark(void)
{
    collect(&marked);
}

API int oracle_can_compare(void)
{
    return PyTraceMalloc_Untrack && _PyTraceMalloc_GetTraceback;
}

/* Compares all blocks that the library knows. The last line is what CPython's books still hold then. */
API void oracle_compare(const char *path)
{
    static char buffer[1 << 16];
    FILE *output = fopen(path, "w");
    if (!output)
        abort();
    setvbuf(output, buffer, _IOFBF, sizeof buffer);
    PyObject *tracemalloc = PyImport_ImportModule("_tracemalloc");
    PyObject *get_traced_memory = PyObject_GetAttrString(tracemalloc, "get_traced_memory");
    collect(&found);
    warm_up(get_traced_memory);
    found.count = 0;
    tables_walk(add, &found);
    for (size_t i = 0; i < found.count; i++)
        compare(&found.blocks[i], get_traced_memory, output);
    fprintf(output, "left %zu\n", their_sum(get_traced_memory));
    fclose(output);
    Py_DecRef(get_traced_memory);
    Py_DecRef(tracemalloc);
}
