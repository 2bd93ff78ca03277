// exceptions.cc: throws through frames of many kinds, allocating on the way up, while unwinding and behind the catch.

#include <cstdio>
#include <string>
#include <vector>

struct Holder {
    std::string text;
    explicit Holder(int depth) : text(100, static_cast<char>('a' + depth % 26))
    {
    }
    ~Holder()
    {
        std::vector<char> while_unwinding(text.begin(), text.end());
    }
};

static int climb(int depth)
{
    Holder holder(depth);
    if (depth == 0)
        throw std::string(200, 'x');
    return climb(depth - 1) + static_cast<int>(holder.text.size());
}

int main()
{
    std::size_t caught = 0;
    for (int round = 0; round < 500; round++) {
        try {
            caught += static_cast<std::size_t>(climb(round % 30));
        } catch (const std::string &text) {
            std::vector<std::string> behind(3, text);
            caught += behind.size();
        }
    }
    std::printf("%zu\n", caught);
    return caught == 1500 ? 0 : 1;
}
