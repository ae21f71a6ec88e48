// Heaps whose leaks are known: each case builds one shape of reachable and lost blocks and says which are which.
//   leak_truth PLUGIN [CASE...]     all cases unless named; PLUGIN: leak_truth_plugin.c as a shared library
// Prints a line a case: name, then blocks and bytes that are definitely, indirectly, possibly lost, and reachable. All
// blocks of a case are obtained below its function case_NAME, by which a report's stacks are attributed.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#define KEEP_OUT_OF_LINE __attribute__((noinline, noclone))

namespace {

struct Sum {
  long blocks = 0, bytes = 0;
  void Add(size_t size, long count = 1) {
    blocks += count;
    bytes += static_cast<long>(size) * count;
  }
};
struct Truth {
  Sum definite, indirect, possible, reachable;
};
Truth truth;

void* volatile held[64];  // what the program keeps; nobody reads it
int held_count = 0;
void Hold(void* p) { held[held_count++] = p; }

const char* plugin = nullptr;

// The value is used, as far as the compiler can tell, and kept nowhere.
template <typename T>
T* Opaque(T* p) {
  __asm__ volatile("" : "+r"(p)::"memory");
  return p;
}

// Stale words of what ran before must not count as pointers: neither in registers nor on the stack that is used again.
KEEP_OUT_OF_LINE void Scrub() {
  volatile char frame[64 << 10];
  for (size_t i = 0; i < sizeof(frame); i++) frame[i] = 0;
  __asm__ volatile(
      "xorl %%ebx, %%ebx\n xorl %%r12d, %%r12d\n xorl %%r13d, %%r13d\n xorl %%r14d, %%r14d\n xorl %%r15d, %%r15d\n" ::
          : "rbx", "r12", "r13", "r14", "r15", "memory");
}

struct Node {
  Node* left = nullptr;
  Node* right = nullptr;
  char rest[32] = {};
};

// `malloc` and not `new`: the requested sizes are the types'.
Node* MakeNode() { return new (malloc(sizeof(Node))) Node; }

Node* MakeChain(int length) {
  Node* head = nullptr;
  for (int i = 0; i < length; i++) {
    Node* node = MakeNode();
    node->left = head;
    head = node;
  }
  return head;
}
Node* MakeTree(int depth) {
  Node* node = MakeNode();
  if (depth > 1) {
    node->left = MakeTree(depth - 1);
    node->right = MakeTree(depth - 1);
  }
  return node;
}
Node* MakeRing(int length) {
  Node* first = MakeNode();
  Node* last = first;
  for (int i = 1; i < length; i++) {
    last->left = MakeNode();
    last = last->left;
  }
  last->left = first;
  return first;
}

KEEP_OUT_OF_LINE void case_single() {
  Opaque(malloc(123));
  truth.definite.Add(123);
}
KEEP_OUT_OF_LINE void case_single_held() {
  Hold(malloc(124));
  truth.reachable.Add(124);
}
KEEP_OUT_OF_LINE void case_freed() { free(Opaque(malloc(125))); }
KEEP_OUT_OF_LINE void case_empty_request() {
  Opaque(malloc(0));
  truth.definite.Add(0);
}
KEEP_OUT_OF_LINE void case_large() {
  memset(Opaque(malloc(3 << 20)), 1, 100);
  truth.definite.Add(3 << 20);
}
KEEP_OUT_OF_LINE void case_all_functions() {
  void* p = nullptr;
  if (posix_memalign(&p, 64, 200) != 0) abort();
  Opaque(p);
  p = nullptr;
  Opaque(calloc(10, 20));
  Opaque(aligned_alloc(256, 512));
  Opaque(strdup("0123456789"));
  Opaque(new char[77]);
  Opaque(new long);
  Opaque(realloc(realloc(nullptr, 10), 5000));
  for (size_t size : {200, 200, 512, 11, 77, 8, 5000}) truth.definite.Add(size);
}
KEEP_OUT_OF_LINE void case_chain() {
  Opaque(MakeChain(10));
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 9);
}
KEEP_OUT_OF_LINE void case_chain_held() {
  Hold(MakeChain(10));
  truth.reachable.Add(sizeof(Node), 10);
}
// Too deep for a recursive marker.
KEEP_OUT_OF_LINE void case_long_chain() {
  Opaque(MakeChain(200000));
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 199999);
}
KEEP_OUT_OF_LINE void case_long_chain_held() {
  Hold(MakeChain(200000));
  truth.reachable.Add(sizeof(Node), 200000);
}
KEEP_OUT_OF_LINE void case_ring() {
  Opaque(MakeRing(7));
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 6);
}
KEEP_OUT_OF_LINE void case_self() {
  Node* node = MakeNode();
  node->left = node;
  Opaque(node);
  truth.definite.Add(sizeof(Node));
}
KEEP_OUT_OF_LINE void case_ring_to_ring() {
  Node* first = MakeRing(3);
  first->right = MakeRing(4);
  Opaque(first);
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 6);
}
KEEP_OUT_OF_LINE void case_tree() {
  Opaque(MakeTree(6));
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 62);
}
KEEP_OUT_OF_LINE void case_tree_held() {
  Hold(MakeTree(6));
  truth.reachable.Add(sizeof(Node), 63);
}
KEEP_OUT_OF_LINE void case_shared_child() {
  Node* child = MakeNode();
  for (int i = 0; i < 2; i++) {
    Node* parent = MakeNode();
    parent->left = child;
    Opaque(parent);
  }
  truth.definite.Add(sizeof(Node), 2);
  truth.indirect.Add(sizeof(Node));
}
KEEP_OUT_OF_LINE void case_cut_tree() {  // the root is held, one branch was let go
  Node* root = Opaque(MakeTree(4));
  Hold(root);
  root->left = nullptr;
  truth.reachable.Add(sizeof(Node), 8);
  truth.definite.Add(sizeof(Node));
  truth.indirect.Add(sizeof(Node), 6);
}
KEEP_OUT_OF_LINE void case_interior() {
  Hold(static_cast<char*>(malloc(400)) + 100);
  truth.possible.Add(400);
}
KEEP_OUT_OF_LINE void case_interior_chain() {  // what a block leads to that is only pointed into
  Node* head = MakeChain(3);
  Hold(&head->rest);
  truth.possible.Add(sizeof(Node), 3);
}
KEEP_OUT_OF_LINE void case_past_the_end() {
  Hold(static_cast<char*>(malloc(416)) + 416);
  truth.possible.Add(416);
}
KEEP_OUT_OF_LINE void case_string() {
  Opaque(new std::string(100, 'x'));
  truth.definite.Add(sizeof(std::string));
  truth.indirect.Add(101);
}
KEEP_OUT_OF_LINE void case_string_held() {
  Hold(new std::string(100, 'x'));
  truth.reachable.Add(sizeof(std::string));
  truth.reachable.Add(101);
}
KEEP_OUT_OF_LINE void case_short_string() {  // points into itself
  Opaque(new std::string("short"));
  truth.definite.Add(sizeof(std::string));
}
KEEP_OUT_OF_LINE void case_vector() {
  auto* v = new std::vector<long>(50);
  Opaque(v);
  truth.definite.Add(sizeof(*v));
  truth.indirect.Add(50 * sizeof(long));
}
KEEP_OUT_OF_LINE void case_vector_of_strings() {
  auto* v = new std::vector<std::string>();
  v->reserve(10);
  for (int i = 0; i < 10; i++) v->emplace_back(200, 'x');
  Opaque(v);
  truth.definite.Add(sizeof(*v));
  truth.indirect.Add(10 * sizeof(std::string));
  truth.indirect.Add(201, 10);
}
KEEP_OUT_OF_LINE void case_vector_held() {
  auto* v = new std::vector<long>(50);
  Hold(v);
  truth.reachable.Add(sizeof(*v));
  truth.reachable.Add(50 * sizeof(long));
}
KEEP_OUT_OF_LINE void case_map() {
  auto* m = new std::map<long, long>;
  for (long i = 0; i < 20; i++) (*m)[i] = i;
  Opaque(m);
  truth.definite.Add(sizeof(*m));
  truth.indirect.Add(48, 20);
}
KEEP_OUT_OF_LINE void case_map_held() {
  auto* m = new std::map<long, long>;
  for (long i = 0; i < 20; i++) (*m)[i] = i;
  Hold(m);
  truth.reachable.Add(sizeof(*m));
  truth.reachable.Add(48, 20);
}
KEEP_OUT_OF_LINE void case_hash_map_held() {
  auto* m = new std::unordered_map<long, long>;
  m->reserve(20);
  const size_t buckets = m->bucket_count();
  for (long i = 0; i < 20; i++) (*m)[i] = i;
  Hold(m);
  truth.reachable.Add(sizeof(*m));
  truth.reachable.Add(24, 20);
  truth.reachable.Add(buckets * sizeof(void*));
}
KEEP_OUT_OF_LINE void case_list() {
  auto* l = new std::list<long>(15);
  Opaque(l);
  truth.definite.Add(sizeof(*l));
  truth.indirect.Add(24, 15);
}
KEEP_OUT_OF_LINE void case_shared_pointer_held() {
  struct Payload {
    char bytes[100];
  };
  auto* p = new std::shared_ptr<Payload>(std::make_shared<Payload>());
  Hold(p);
  truth.reachable.Add(sizeof(*p));
  truth.reachable.Add(16 + 104);  // counts and payload in one block, rounded to 8
}
KEEP_OUT_OF_LINE void case_shared_pointers_in_a_circle() {
  struct Link {
    std::shared_ptr<Link> next;
  };
  auto a = std::make_shared<Link>(), b = std::make_shared<Link>();
  a->next = b;
  b->next = a;
  truth.definite.Add(16 + sizeof(Link));
  truth.indirect.Add(16 + sizeof(Link));
}
KEEP_OUT_OF_LINE void case_function_held() {
  long captured[8] = {1};
  auto* f = new std::function<long()>([captured] { return captured[0]; });
  Hold(f);
  truth.reachable.Add(sizeof(*f));
  truth.reachable.Add(sizeof(captured));
}

struct FirstBase {
  virtual ~FirstBase() = default;
  long first = 1;
};
struct SecondBase {
  virtual ~SecondBase() = default;
  long second = 2;
};
struct Derived : FirstBase, SecondBase {
  long own = 3;
};
KEEP_OUT_OF_LINE void case_second_base() {
  SecondBase* p = new Derived;
  Hold(p);
  truth.possible.Add(sizeof(Derived));
}
KEEP_OUT_OF_LINE void case_first_base() {
  FirstBase* p = new Derived;
  Hold(p);
  truth.reachable.Add(sizeof(Derived));
}

struct WithDestructor {
  ~WithDestructor() { Opaque(this); }
  long value = 0;
};
KEEP_OUT_OF_LINE void case_array_cookie() {
  Hold(new WithDestructor[5]);
  truth.possible.Add(8 + 5 * sizeof(WithDestructor));
}
KEEP_OUT_OF_LINE void case_array_cookie_of_none() {  // the pointer is right behind the block
  Hold(new WithDestructor[Opaque(&truth) == nullptr ? 1 : 0]);
  truth.possible.Add(8);
}

pthread_barrier_t ready;
KEEP_OUT_OF_LINE void case_thread_stack() {
  const auto body = [](void*) -> void* {
    void* volatile local = malloc(321);
    pthread_barrier_wait(&ready);
    for (;;) pause();
    return local;
  };
  pthread_t thread;
  pthread_barrier_init(&ready, nullptr, 2);
  if (pthread_create(&thread, nullptr, body, nullptr) != 0) abort();
  pthread_barrier_wait(&ready);
  truth.reachable.Add(321);
}
thread_local void* volatile of_thread = nullptr;
KEEP_OUT_OF_LINE void case_thread_local() {
  of_thread = malloc(322);
  truth.reachable.Add(322);
}
KEEP_OUT_OF_LINE void case_thread_local_of_the_dead() {
  pthread_t thread;
  const auto body = [](void*) -> void* {
    of_thread = malloc(323);
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, body, nullptr) != 0) abort();
  pthread_join(thread, nullptr);
  truth.definite.Add(323);
}
KEEP_OUT_OF_LINE void case_thread_specific() {
  pthread_key_t key;
  pthread_key_create(&key, nullptr);
  pthread_setspecific(key, malloc(324));
  truth.reachable.Add(324);
}

void** MapPage(int flags) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
  return static_cast<void**>(page);
}
KEEP_OUT_OF_LINE void case_mapping() {
  MapPage(MAP_PRIVATE)[17] = malloc(400);
  truth.reachable.Add(400);
}
KEEP_OUT_OF_LINE void case_shared_mapping() {
  MapPage(MAP_SHARED)[17] = malloc(401);
  truth.reachable.Add(401);
}
KEEP_OUT_OF_LINE void case_mapping_that_is_gone() {
  void** page = MapPage(MAP_PRIVATE);
  page[17] = malloc(402);
  munmap(page, 4096);
  truth.definite.Add(402);
}
KEEP_OUT_OF_LINE void case_inaccessible_mapping() {  // neither read nor crashed on; nobody can follow it
  void** page = MapPage(MAP_PRIVATE);
  page[17] = malloc(403);
  mprotect(page, 4096, PROT_NONE);
  truth.definite.Add(403);
}
KEEP_OUT_OF_LINE void case_read_only_mapping() {  // written, then sealed: relocated data, frozen tables
  void** page = MapPage(MAP_PRIVATE);
  page[17] = malloc(404);
  mprotect(page, 4096, PROT_READ);
  truth.reachable.Add(404);
}
KEEP_OUT_OF_LINE void case_library() {
  void* library = dlopen(plugin, RTLD_NOW);
  *static_cast<void**>(dlsym(library, "plugin_holds")) = malloc(500);
  truth.reachable.Add(500);
}
KEEP_OUT_OF_LINE void case_library_that_is_gone() {
  void* library = dlmopen(LM_ID_NEWLM, plugin, RTLD_NOW);
  if (library == nullptr) abort();
  *static_cast<void**>(dlsym(library, "plugin_holds")) = malloc(501);
  dlclose(library);
  truth.definite.Add(501);
}

KEEP_OUT_OF_LINE void LeaveStaleWords(void* p) {
  void* volatile frame[200];
  for (auto& word : frame) word = p;
  Opaque(const_cast<void**>(&frame[0]));
}
KEEP_OUT_OF_LINE void case_stale_stack() {
  LeaveStaleWords(malloc(600));
  truth.definite.Add(600);
}
KEEP_OUT_OF_LINE void case_stale_freed_block() {
  void** block = static_cast<void**>(malloc(4000));
  for (int i = 0; i < 500; i++) block[i] = nullptr;
  block[300] = malloc(601);
  free(Opaque(block));
  truth.definite.Add(601);
}
KEEP_OUT_OF_LINE void case_overwritten_holder() {
  Hold(malloc(602));
  held[held_count - 1] = nullptr;
  truth.definite.Add(602);
}
KEEP_OUT_OF_LINE void case_moved_by_realloc() {
  Node* node = MakeNode();
  node->left = MakeNode();
  Hold(realloc(node, 100000));
  truth.reachable.Add(100000);
  truth.reachable.Add(sizeof(Node));
}

struct Case {
  const char* name;
  void (*run)();
};
#define CASE(name) \
  { #name, case_##name }
constexpr Case kCases[] = {CASE(single),
                           CASE(single_held),
                           CASE(freed),
                           CASE(empty_request),
                           CASE(large),
                           CASE(all_functions),
                           CASE(chain),
                           CASE(chain_held),
                           CASE(long_chain),
                           CASE(long_chain_held),
                           CASE(ring),
                           CASE(self),
                           CASE(ring_to_ring),
                           CASE(tree),
                           CASE(tree_held),
                           CASE(shared_child),
                           CASE(cut_tree),
                           CASE(interior),
                           CASE(interior_chain),
                           CASE(past_the_end),
                           CASE(string),
                           CASE(string_held),
                           CASE(short_string),
                           CASE(vector),
                           CASE(vector_of_strings),
                           CASE(vector_held),
                           CASE(map),
                           CASE(map_held),
                           CASE(hash_map_held),
                           CASE(list),
                           CASE(shared_pointer_held),
                           CASE(shared_pointers_in_a_circle),
                           CASE(function_held),
                           CASE(second_base),
                           CASE(first_base),
                           CASE(array_cookie),
                           CASE(array_cookie_of_none),
                           CASE(thread_stack),
                           CASE(thread_local),
                           CASE(thread_local_of_the_dead),
                           CASE(thread_specific),
                           CASE(mapping),
                           CASE(shared_mapping),
                           CASE(mapping_that_is_gone),
                           CASE(inaccessible_mapping),
                           CASE(read_only_mapping),
                           CASE(library),
                           CASE(library_that_is_gone),
                           CASE(stale_stack),
                           CASE(stale_freed_block),
                           CASE(overwritten_holder),
                           CASE(moved_by_realloc)};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  plugin = argv[1];
  for (const Case& one : kCases) {
    bool wanted = argc == 2;
    for (int i = 2; i < argc; i++) wanted |= strcmp(argv[i], one.name) == 0;
    if (!wanted) continue;
    truth = {};
    one.run();
    Scrub();
    printf("%s %ld %ld %ld %ld %ld %ld %ld %ld\n", one.name, truth.definite.blocks, truth.definite.bytes,
           truth.indirect.blocks, truth.indirect.bytes, truth.possible.blocks, truth.possible.bytes,
           truth.reachable.blocks, truth.reachable.bytes);
  }
  fflush(stdout);
  return 0;
}
