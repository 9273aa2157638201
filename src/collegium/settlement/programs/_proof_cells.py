"""Where the verification of a proof keeps what all its parts look at: single words below the stack."""

from __future__ import annotations

# the transcript
HASH = 128  # a hash, as `_hashing` has them
BLOCK = 129  # number of the stream's next block
STREAM = 130  # four words of the stream
STREAM_AT = 134
STATE = 136  # four words
# the code and the layout, docs/spec/proofs.md, section 2
SLOTS = 140  # k
QUERIES = 141  # Q
PADS = 142  # t
OPENINGS = 143  # o
TREES = 144  # how many data trees; trace, products and quotient follow
COUNTS = 145  # address: rows of each tree
BASES = 146  # address: rows before each tree
TOTAL = 147  # rows of all trees
TABLES = 148
TABLE_COUNT = 149
LOOKUPS = 150
LOOKUP_COUNT = 151
MONOMIALS = 152
MONOMIAL_COUNT = 153
CONSTRAINT_COUNT = 154
PAIRS = 155
PAIR_COUNT = 156
SUM_MASK = 157
COMBINATION_MASK = 158
CHUNKS = 159
# the proof
PROOF = 160  # address of its words
KEY_VALUES = 161  # address
VALUES = 162  # address: every row at zeta
ROOTS = 163  # address: the root of each tree
# challenges, elements of K unless said otherwise
MU = 164
KEY_POINT = 166
RHO = 168
TAU = 170
ZETA = 172
ALPHAS = 174  # address
GAMMAS = 175  # address
CHI = 176  # address
LAMBDAS = 177  # address
FACTORS = 178  # address
MASK_TOTAL = 180
# sums at zeta
WEIGHTS = 182  # address: L_h(zeta) for every slot
LEFT = 184  # the left side of equation (1) at zeta
CONSTANT = 186  # the constants of all sums
# the statement
RELATIONS = 188
KEY_ROWS = 189
# what a report names: addresses
REPORT_RECORD = 190
TERMS_RECORD = 191
PLAN = 192
CIPHERTEXT = 193
BLOCKS = 194
UPDATE_ENTRIES = 195
UPDATE_BOUND = 196
UPDATE_LANES = 197
LANE_BITS = 198
NOISE_BITS = 199
NORM = 200  # norm bound + 1, or 0
NOISE = 201  # tensors of section 4.1
KEY = 202
KEY_PADS = 203
ROUND = 204
COMBINATION = 205
REMAINDER = 206
OPENED_AT = 208  # address: the nonce, and the opened columns behind it
PROOF_BYTES = 209
LOOKUPS_MAX = 210
MONOMIALS_MAX = 211
MATRIX_SEED = 212  # address
TRAINER = 213  # address: the account, in three words
BEACON = 215  # address
# a training step
STEP = 216  # word of the plan at which the step's part begins
ROWS = 217  # n
ONE = 218  # 2^f
MODEL_BYTES = 219  # address of the model state
PARAMETERS = 220  # address: every parameter as an element of F
CHOSEN = 221  # address: a word a row, 1 if the beacon chose it
CHOSEN_COUNT = 222
FEATURES = 223
LABELS = 224
LAYERS = 225  # address: the expressions of each hidden layer
INNER = 226  # address: the four matrices of each layer
ERROR = 227  # D of the last layer
LOSS_TENSORS = 228  # address
TAUS = 229  # address
NEXT_CHI = 230
DATA_ROOT = 231  # address
RECORD = 232  # address of the registration's bytes
RECORD_BYTES = 233
# the score of a training step
DIRECTION = 234  # address: a signed word an entry but the row count; 0 where no score is demanded
SHIFT = 235
SIGMA = 236
TURN = 237  # the beacon: by how many entries the table of noises is turned
SCORE = 238  # y, a signed word
SCORE_NOISE = 239  # tensors of section 4.5
SCORE_LIMBS = 240
SCORE_FIRST = 241  # the turned table's first entry, a signed word
PREFIX = 242  # words before a proof: the score and its rows, where the round has a direction
# an evaluation: addresses
VALUE = 243  # the value's tensors
CLASSES = 244  # the tensors that say which class is predicted
GENUINE = 245  # of each row of a matrix of width 1, the weights of the genuine samples
