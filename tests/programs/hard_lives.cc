/* hard_lives.cc: what is allocated before main and freed after it, by constructors, static objects, thread_local ones
   and atexit. Prints the same whether it is traced or not. */

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

extern "C" int tm_is_tracing() __attribute__((weak));
extern "C" void tm_get_traced_memory(size_t *current, size_t *peak) __attribute__((weak));
extern "C" int tm_get_object_traceback(const void *ptr, void **frames, int max) __attribute__((weak));

static bool is_known(const void *block)
{
    return !tm_is_tracing || !tm_is_tracing() || tm_get_object_traceback(block, nullptr, 0) > 0;
}

static void *earliest, *early, *late;

__attribute__((constructor(102))) static void first()
{
    earliest = malloc(1000);
    free(malloc(5));
}

__attribute__((constructor(65000))) static void second()
{
    early = calloc(10, 10);
}

__attribute__((destructor(65000))) static void last_but_one()
{
    free(early);
    late = malloc(10);
}

__attribute__((destructor(102))) static void last()
{
    free(earliest);
    free(late);
    free(malloc(10));
}

struct table {
    std::map<std::string, std::vector<int>> rows;
    table()
    {
        for (int i = 0; i < 200; i++)
            rows["a key that is too long to lie in the string " + std::to_string(i)].resize(i);
    }
    ~table()
    {
        printf("%zu rows at the end\n", rows.size());
    }
};

static table global;

static table &first_use()
{
    static table made;
    return made;
}

struct owner {
    std::unique_ptr<std::string> held;
    std::vector<char> bytes;
    owner() : held(new std::string(500, 'x')), bytes(300)
    {
    }
    ~owner()
    {
        held = std::make_unique<std::string>(1000, 'y');
    }
};

static thread_local owner mine;

static size_t traced_now()
{
    size_t current = 0, peak = 0;
    if (tm_get_traced_memory)
        tm_get_traced_memory(&current, &peak);
    return current;
}

int main()
{
    printf("%s\n", is_known(early) ? "known" : "a constructor's block is not known");
    printf("%zu %zu\n", global.rows.size(), first_use().rows.size());
    std::vector<std::thread> warm;
    for (int i = 0; i < 50; i++)
        warm.emplace_back([] { mine.bytes.push_back(1); });
    for (auto &thread : warm)
        thread.join();
    size_t before = traced_now();
    for (int round = 0; round < 6; round++) {
        for (auto &thread : warm)
            thread = std::thread([] { mine.bytes.resize(2000); });
        for (auto &thread : warm)
            thread.join();
    }
    printf("%s\n", traced_now() - before + 20000 < 40000 ? "freed" : "blocks of threads are left");
    mine.bytes.clear();
    atexit([] {
        std::string text(100, 'z');
        printf("atexit %zu\n", text.size());
    });
    return 0;
}
