"""The peers: each a program with the arguments of `limit.py`, as the best user of that system would write it.

All call the limit's own `tf.function` (decoding, preprocessing and module in one graph, best batch size, frozen or plain),
except `tfx_bsl`, which takes nothing but a SavedModel. So what differs is what each system does around it.
"""
