// Eight threads that build and drop lists, vectors and strings without a pause, and lose nothing. Ends while they run:
// "return" or "_exit".
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> started;

static void Churn(unsigned seed) {
  std::list<std::unique_ptr<std::string>> mine;
  auto** moving = static_cast<std::string**>(malloc(sizeof(std::string*)));
  moving[0] = new std::string(200, 'm');
  started++;
  for (;;) {
    seed = seed * 1103515245 + 12345;
    const unsigned draw = seed >> 16;
    if (mine.size() < 200 || draw % 2 != 0) {
      mine.push_back(std::make_unique<std::string>(20 + draw % 900, 'x'));
    } else {
      mine.pop_front();
    }
    if (mine.size() > 400) mine.clear();
    if (draw % 64 == 0) {
      std::vector<std::string> grown;
      for (size_t i = 0; i < 50; i++) grown.emplace_back(i * 7, 'y');
    }
    // What it holds is held by nothing else while it moves.
    moving = static_cast<std::string**>(realloc(moving, sizeof(std::string*) * (1 + draw % 5000)));
  }
}

int main(int, char** arguments) {
  for (unsigned i = 0; i < 8; i++) std::thread(Churn, i).detach();
  while (started < 8) usleep(1000);
  usleep(20'000);
  if (std::strcmp(arguments[1], "_exit") == 0) _exit(0);
  return 0;
}
