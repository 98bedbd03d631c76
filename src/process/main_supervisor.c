#include <sallyport/process.h>

int main(int argc, char **argv) { return sp_supervisor_main(argc, argv); }
