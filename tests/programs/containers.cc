// containers.cc: blocks of the C++ standard library's containers.

#include <map>
#include <memory>
#include <string>
#include <vector>

struct Item {
    char body[500];
};

std::vector<Item> items;
std::map<int, std::string> names;
std::unique_ptr<Item> one;
int *array;

extern "C" __attribute__((noipa)) void checkpoint()
{
    __asm__ volatile("");
}

int main()
{
    items.resize(20); /* line: vector */
    names[7] = std::string(300, 'x'); /* line: map */
    one = std::make_unique<Item>(); /* line: unique */
    array = new int[100]; /* line: array */
    checkpoint();
}
