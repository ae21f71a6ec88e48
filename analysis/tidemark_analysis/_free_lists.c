// The loop of free_lists.py, for installations that have a C compiler; loaded by compiled.py through ctypes.
//
// Follows the free lists of the allocator over one section (docs/trace-format.md, "Address"). Trusts its caller for the
// lengths of arrays, and nothing that comes from the file. Must not: need Python's headers, or keep state.
#include <stdint.h>
#include <stdlib.h>

enum { kFree, kMove, kStay, kAlloc };

static const uint64_t kMask = ((uint64_t)1 << 60) - 1;
enum { kPageShift = 12, kSearched = 4, kClasses = 256 };

struct Page {
  uint64_t number;
  int32_t ready, freed;  // heads of lists in `next`, -1: empty
  int32_t used;
};

struct Walker {
  struct Page* pages;
  uint64_t page_mask;
  int32_t* next;
  uint64_t* block;
  int32_t nodes;
};

static struct Page* PageOf(struct Walker* w, uint64_t address) {
  const uint64_t number = address >> kPageShift;
  uint64_t at = (number * 0x9e3779b97f4a7c15u >> 20) & w->page_mask;
  while (w->pages[at].used && w->pages[at].number != number) at = (at + 1) & w->page_mask;
  if (!w->pages[at].used) w->pages[at] = (struct Page){number, -1, -1, 1};
  return &w->pages[at];
}

// What follows `block` in the list if it is among the first four, else -2.
static int32_t Behind(const struct Walker* w, int32_t head, uint64_t block) {
  for (int i = 0; i < kSearched && head >= 0; i++, head = w->next[head]) {
    if (w->block[head] == block) return w->next[head];
  }
  return -2;
}

static void Obtain(const struct Walker* w, struct Page* page, uint64_t block) {
  if (page->ready >= 0) {
    const int32_t rest = Behind(w, page->ready, block);
    if (rest != -2) {
      page->ready = rest;
    } else if (page->freed >= 0 && w->block[page->freed] == block) {
      page->ready = w->next[page->freed];
      page->freed = -1;
    }
    return;
  }
  const int32_t rest = Behind(w, page->freed, block);
  if (rest == -2) return;
  page->ready = rest;
  page->freed = -1;
}

// Returns the number of sound events, or -1 for want of memory.
int64_t tidemark_follow_free_lists(int64_t events, int64_t surprise_count, const uint8_t* kinds, const uint8_t* classes,
                                   const uint64_t* steps, const uint64_t* origins, const uint64_t* far,
                                   const int64_t* surprises, const uint64_t* differences, uint64_t* obtained,
                                   uint64_t* released) {
  uint64_t page_count = 16;
  while (page_count < 4 * (uint64_t)events) page_count *= 2;  // an event looks at two pages at most
  struct Walker w = {calloc(page_count, sizeof(struct Page)), page_count - 1, malloc(sizeof(int32_t) * (events + 1)),
                     malloc(sizeof(uint64_t) * (events + 1)), 0};
  if (w.pages == NULL || w.next == NULL || w.block == NULL) {
    free(w.pages);
    free(w.next);
    free(w.block);
    return -1;
  }
  uint64_t last_block[kClasses] = {0}, last = 0;
  struct Page* last_page[kClasses] = {0};
  int64_t obtained_count = 0, released_count = 0, shaped = 0, surprise = 0, far_count = 0, at = 0;
  for (; at < events; at++) {
    const uint8_t kind = kinds[at];
    uint64_t block = 0;
    if (kind != kAlloc) {
      const uint64_t origin = origins[released_count];
      if (origin > (uint64_t)obtained_count) break;
      block = origin != 0 ? obtained[obtained_count - (int64_t)origin] : far[far_count++];
      released[released_count++] = block;
    }
    if (kind == kStay) {
      obtained[obtained_count++] = block;
      continue;
    }
    if (kind != kFree) {
      const uint8_t size_class = classes[shaped];
      struct Page* page = last_page[size_class];
      uint64_t found = last;
      if (page != NULL) {
        const int32_t head = page->ready >= 0 ? page->ready : page->freed;
        found = head >= 0 ? w.block[head] : (last_block[size_class] + steps[shaped]) & kMask;
      }
      if (surprise < surprise_count && surprises[surprise] == shaped) {
        found = (found + differences[surprise++]) & kMask;
      }
      shaped++;
      page = PageOf(&w, found);
      Obtain(&w, page, found);
      last = last_block[size_class] = found;
      last_page[size_class] = page;
      obtained[obtained_count++] = found;
    }
    if (kind != kAlloc) {
      struct Page* page = PageOf(&w, block);
      w.block[w.nodes] = block;
      w.next[w.nodes] = page->freed;
      page->freed = w.nodes++;
    }
  }
  free(w.pages);
  free(w.next);
  free(w.block);
  return at;
}
