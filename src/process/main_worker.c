#include <sallyport/process.h>

int main(int argc, char **argv) { return sp_worker_main(argc, argv); }
