// Messages made by some threads and freed by others: every free is a cross-thread free, through a bounded queue.
//
//   producer_consumer MESSAGES [PAIRS]     PAIRS producers and as many consumers
// The queue moves batches of 64, so that its lock is not what is measured. Must not: let a producer free its own.
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "random_source.h"

namespace {

struct Message {
  unsigned long number;
  std::string text;
};
using Batch = std::vector<Message*>;

class Queue {
 public:
  void Put(Batch batch) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return batches_.size() < 16; });
    batches_.push_back(std::move(batch));
    work_.notify_one();
  }
  Batch Take() {  // empty: the end
    std::unique_lock lock(mutex_);
    work_.wait(lock, [this] { return !batches_.empty(); });
    Batch batch = std::move(batches_.front());
    batches_.pop_front();
    room_.notify_one();
    return batch;
  }

 private:
  std::mutex mutex_;
  std::condition_variable room_, work_;
  std::deque<Batch> batches_;
};

void Produce(Queue* queue, unsigned long seed, unsigned long messages) {
  RandomSource random(seed);
  Batch batch;
  for (unsigned long i = 0; i < messages; i++) {
    batch.push_back(new Message{i, std::string(24 + random.Below(200), 'm')});
    if (batch.size() == 64 || i + 1 == messages) queue->Put(std::exchange(batch, {}));
  }
  queue->Put({});
}

void Consume(Queue* queue, unsigned long* checksum) {
  for (Batch batch = queue->Take(); !batch.empty(); batch = queue->Take()) {
    for (Message* message : batch) {
      *checksum += message->number ^ message->text.size();
      delete message;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long messages = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000;
  const unsigned long pairs = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  std::vector<std::thread> threads;
  std::vector<unsigned long> checksums(pairs);
  Queue queue;
  for (unsigned long i = 0; i < pairs; i++) {
    threads.emplace_back(Produce, &queue, i, messages / pairs);
    threads.emplace_back(Consume, &queue, &checksums[i]);
  }
  for (std::thread& thread : threads) thread.join();
  unsigned long checksum = 0;
  for (const unsigned long part : checksums) checksum += part;
  std::printf("checksum %lu\n", checksum);
  return 0;
}
