// A library whose global variable keeps a block of leak_truth.cc.
void* plugin_holds;
