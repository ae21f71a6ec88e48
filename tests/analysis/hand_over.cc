// Two threads make strings, two others free them, and all grow vectors meanwhile: blocks that change hands, reallocs of
// other threads in between, and equal time stamps. argv[1]: strings a thread.
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

std::mutex mutex;
std::condition_variable changed;
std::deque<std::string*> queue;
bool done = false;

void Produce(int count) {
  for (int i = 0; i < count; i++) {
    auto* text = new std::string(20 + static_cast<size_t>(i * 7 % 300), 'x');
    char* grown = nullptr;
    for (size_t size = 16; size < 16u + static_cast<size_t>(i % 500); size *= 2) {
      grown = static_cast<char*>(realloc(grown, size));
    }
    if (i % 100 != 0) free(grown);  // one in a hundred stays
    const std::lock_guard lock(mutex);
    queue.push_back(text);
    changed.notify_one();
  }
}

void Consume() {
  for (;;) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [] { return done || !queue.empty(); });
    if (queue.empty()) return;
    const std::string* text = queue.front();
    queue.pop_front();
    lock.unlock();
    delete text;
  }
}

}  // namespace

int main(int, char** arguments) {
  const int count = atoi(arguments[1]);
  std::thread producers[] = {std::thread(Produce, count), std::thread(Produce, count)};
  std::thread consumers[] = {std::thread(Consume), std::thread(Consume)};
  for (std::thread& producer : producers) producer.join();
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  changed.notify_all();
  for (std::thread& consumer : consumers) consumer.join();
}
