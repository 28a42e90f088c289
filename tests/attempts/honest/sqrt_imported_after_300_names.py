# truth: So is one imported after many other names.
# expect: pass
import numpy as np

name_0 = 0; name_1 = 1; name_2 = 2; name_3 = 3; name_4 = 4; name_5 = 5; name_6 = 6; name_7 = 7; name_8 = 8; name_9 = 9
name_10 = 10; name_11 = 11; name_12 = 12; name_13 = 13; name_14 = 14; name_15 = 15; name_16 = 16; name_17 = 17; name_18 = 18; name_19 = 19
name_20 = 20; name_21 = 21; name_22 = 22; name_23 = 23; name_24 = 24; name_25 = 25; name_26 = 26; name_27 = 27; name_28 = 28; name_29 = 29
name_30 = 30; name_31 = 31; name_32 = 32; name_33 = 33; name_34 = 34; name_35 = 35; name_36 = 36; name_37 = 37; name_38 = 38; name_39 = 39
name_40 = 40; name_41 = 41; name_42 = 42; name_43 = 43; name_44 = 44; name_45 = 45; name_46 = 46; name_47 = 47; name_48 = 48; name_49 = 49
name_50 = 50; name_51 = 51; name_52 = 52; name_53 = 53; name_54 = 54; name_55 = 55; name_56 = 56; name_57 = 57; name_58 = 58; name_59 = 59
name_60 = 60; name_61 = 61; name_62 = 62; name_63 = 63; name_64 = 64; name_65 = 65; name_66 = 66; name_67 = 67; name_68 = 68; name_69 = 69
name_70 = 70; name_71 = 71; name_72 = 72; name_73 = 73; name_74 = 74; name_75 = 75; name_76 = 76; name_77 = 77; name_78 = 78; name_79 = 79
name_80 = 80; name_81 = 81; name_82 = 82; name_83 = 83; name_84 = 84; name_85 = 85; name_86 = 86; name_87 = 87; name_88 = 88; name_89 = 89
name_90 = 90; name_91 = 91; name_92 = 92; name_93 = 93; name_94 = 94; name_95 = 95; name_96 = 96; name_97 = 97; name_98 = 98; name_99 = 99
name_100 = 100; name_101 = 101; name_102 = 102; name_103 = 103; name_104 = 104; name_105 = 105; name_106 = 106; name_107 = 107; name_108 = 108; name_109 = 109
name_110 = 110; name_111 = 111; name_112 = 112; name_113 = 113; name_114 = 114; name_115 = 115; name_116 = 116; name_117 = 117; name_118 = 118; name_119 = 119
name_120 = 120; name_121 = 121; name_122 = 122; name_123 = 123; name_124 = 124; name_125 = 125; name_126 = 126; name_127 = 127; name_128 = 128; name_129 = 129
name_130 = 130; name_131 = 131; name_132 = 132; name_133 = 133; name_134 = 134; name_135 = 135; name_136 = 136; name_137 = 137; name_138 = 138; name_139 = 139
name_140 = 140; name_141 = 141; name_142 = 142; name_143 = 143; name_144 = 144; name_145 = 145; name_146 = 146; name_147 = 147; name_148 = 148; name_149 = 149
name_150 = 150; name_151 = 151; name_152 = 152; name_153 = 153; name_154 = 154; name_155 = 155; name_156 = 156; name_157 = 157; name_158 = 158; name_159 = 159
name_160 = 160; name_161 = 161; name_162 = 162; name_163 = 163; name_164 = 164; name_165 = 165; name_166 = 166; name_167 = 167; name_168 = 168; name_169 = 169
name_170 = 170; name_171 = 171; name_172 = 172; name_173 = 173; name_174 = 174; name_175 = 175; name_176 = 176; name_177 = 177; name_178 = 178; name_179 = 179
name_180 = 180; name_181 = 181; name_182 = 182; name_183 = 183; name_184 = 184; name_185 = 185; name_186 = 186; name_187 = 187; name_188 = 188; name_189 = 189
name_190 = 190; name_191 = 191; name_192 = 192; name_193 = 193; name_194 = 194; name_195 = 195; name_196 = 196; name_197 = 197; name_198 = 198; name_199 = 199
name_200 = 200; name_201 = 201; name_202 = 202; name_203 = 203; name_204 = 204; name_205 = 205; name_206 = 206; name_207 = 207; name_208 = 208; name_209 = 209
name_210 = 210; name_211 = 211; name_212 = 212; name_213 = 213; name_214 = 214; name_215 = 215; name_216 = 216; name_217 = 217; name_218 = 218; name_219 = 219
name_220 = 220; name_221 = 221; name_222 = 222; name_223 = 223; name_224 = 224; name_225 = 225; name_226 = 226; name_227 = 227; name_228 = 228; name_229 = 229
name_230 = 230; name_231 = 231; name_232 = 232; name_233 = 233; name_234 = 234; name_235 = 235; name_236 = 236; name_237 = 237; name_238 = 238; name_239 = 239
name_240 = 240; name_241 = 241; name_242 = 242; name_243 = 243; name_244 = 244; name_245 = 245; name_246 = 246; name_247 = 247; name_248 = 248; name_249 = 249
name_250 = 250; name_251 = 251; name_252 = 252; name_253 = 253; name_254 = 254; name_255 = 255; name_256 = 256; name_257 = 257; name_258 = 258; name_259 = 259
name_260 = 260; name_261 = 261; name_262 = 262; name_263 = 263; name_264 = 264; name_265 = 265; name_266 = 266; name_267 = 267; name_268 = 268; name_269 = 269
name_270 = 270; name_271 = 271; name_272 = 272; name_273 = 273; name_274 = 274; name_275 = 275; name_276 = 276; name_277 = 277; name_278 = 278; name_279 = 279
name_280 = 280; name_281 = 281; name_282 = 282; name_283 = 283; name_284 = 284; name_285 = 285; name_286 = 286; name_287 = 287; name_288 = 288; name_289 = 289
name_290 = 290; name_291 = 291; name_292 = 292; name_293 = 293; name_294 = 294; name_295 = 295; name_296 = 296; name_297 = 297; name_298 = 298; name_299 = 299
from math import sqrt as root


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / root(keep_prob)
        return (x * mask * scale).astype(x.dtype)
