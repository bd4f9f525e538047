"""Products of matrices, the one piece of code that all compiled contractions share.

    void @loopgrad_pack_f32(i64 K, i64 N, float* B, i64 bk, i64 bn, float* packed,
                            i64 first, i64 depth)
    void @loopgrad_pack_at_f32(i64 K, i64 N, float* B, i64* at_k, i64* at_n, float* packed)
    void @loopgrad_product_f32(i64 M, i64 N, i64 K, float* A, i64 am, i64 ak, float* packed,
                               i64 first, i64 depth, i64 columns, float* C, i64 cm,
                               float scale, i1 adds)

    void @loopgrad_runs_f32(i64 N, i64* at_n, i64* found)
    void @loopgrad_product_at_f32(i64 M, i64 N, i64 K, float* A, i64 am, i64 ak, float* B,
                                  i64* at_k, i64* at_n, float* C, i64 cm, float scale, i1 adds)

    void @loopgrad_product_turned_f32(i64 M, i64 N, i64 K, float* packed, i64 first, i64 depth, float* B,
                                      i64* at_k, i64* at_n, float* T, i64 tm, i1 adds)
    void @loopgrad_put_turned_f32(i64 M, i64 N, float* T, i64 tm, float* C, i64 cm, float scale, i1 adds)

and `_f64`: C[m*cm + n] = or (`adds`) += `scale` times the sum over k of A[m*am + k*ak] times
B[k*bk + n*bn], which `pack` has put into `packed_size(depth, columns)` elements before. What is packed
may be larger: `depth` values of k, of which `first` and those that follow are meant, and `columns`, of
which the first N are. `pack_at` packs a B whose elements are at at_k[k] + at_n[n], as deep as it is.
`product_at` reads such a B where it lies; its columns are whole panels whose vectors are runs, of which
`runs` says how many there are to begin with. `product_turned` takes a packed A, whose rows are its columns
then, and such a B; T[n*tm + m] is what `put_turned` takes to C.
All sizes and strides are given at the call; with K = 0, zeros are stored or nothing is added. They run
on the thread that calls them, and keep nothing: several threads may share what is packed.
"""
