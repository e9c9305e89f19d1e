// Carries the precompiled tests/catch.h that every test reuses; never run.
int main() { return 0; }
