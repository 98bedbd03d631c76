#include <sallyport/process.h>

int main(int argc, char **argv) { return sp_control_main(argc, argv); }
