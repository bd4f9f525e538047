"""Products of matrices, the one piece of code that all compiled contractions share.

    void @loopgrad_pack_f32(i64 K, i64 N, float* B, i64 bk, i64 bn, float* packed,
                            i64 first, i64 depth)
    void @loopgrad_pack_at_f32(i64 K, i64 N, float* B, i64* at_k, i64* at_n, float* packed)
    void @loopgrad_product_f32(i64 M, i64 N, i64 K, float* A, i64 am, i64 ak, float* packed,
                               i64 first, i64 depth, i64 columns, i64 bk, float* C, i64 cm,
                               float scale, i1 adds)

    void @loopgrad_dots_f32(i64 M, i64 N, i64 K, float* A, i64 am, float* B, i64 bn, float* C, i64 cm,
                            float scale, i1 adds)

    void @loopgrad_product_at_f32(i64 M, i64 V, i64 K, float* A, i64 am, i64 ak, float* B, i64* at_k,
                                  i64* starts, i64* targets, i64 run, float* C, i64 cm, float scale, i1 adds)

    void @loopgrad_product_turned_f32(i64 M, i64 N, i64 K, float* packed, i64 first, i64 depth, float* B,
                                      i64* at_k, i64* rows, i64* at_n, i64* to, float* T, i64 tm, i1 adds)
    void @loopgrad_put_turned_f32(i64 M, i64 N, float* T, i64 tm, float* C, i64 cm, float scale, i1 adds)

    void @loopgrad_boxes_f32(i64* given, i64* boxes, i64* at_n, i64* to, i64* at_k, i64* rows)
    void @loopgrad_product_boxes_f32(i64 M, i64 parts, float* packed, i64 first, i64 depth, float* B,
                                     i64* boxes, i64* at_n, i64* to, i64* at_k, i64* rows, float* T,
                                     i64 tm, i1 adds)

and `_f64`: C[m*cm + n] = or (`adds`) += `scale` times the sum over k of A[m*am + k*ak] times
B[k*bk + n*bn], which `pack` has put into `packed_size(depth, columns)` elements before. What is packed
may be larger: `depth` values of k, of which `first` and those that follow are meant, and `columns`, of
which the first N are. Where `bk` is not 0, B is not packed: B[k,n] is at packed[k*bk + n], and N no
less than a vector's lanes. `pack_at` packs a B whose elements are at at_k[k] + at_n[n], as deep as it is.
`dots` takes an A and a B whose rows go along k: A[m,k] is at m*am + k, B[k,n] at n*bn + k.
`product_at` reads a B where it lies whose columns are runs of `run` elements: V vectors begin at `starts` in
B, and at `targets` in C. `product_turned` takes a packed A, whose rows are its columns
then, and a B as `pack_at` does; T[n*tm + m] is what `put_turned` takes to C. `product_boxes` does so for
columns that do not need all of k: `boxes` has found which (`borders.py`).
All sizes and strides are given at the call; with K = 0, zeros are stored or nothing is added. They run
on the thread that calls them, and keep nothing: several threads may share what is packed.
"""
