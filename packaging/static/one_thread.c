// The two functions of OpenMP that compute/ calls. The static oneDNN is built without OpenMP and
// runs on the thread that calls it, which is all that they are called for.
int omp_get_max_threads(void) { return 1; }
void omp_set_num_threads(int count) { (void)count; }
